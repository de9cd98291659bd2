"""Handlers for outages, which lose nothing but time when they are cut off from the database."""

from __future__ import annotations

import secrets

from sample_jobs import PATIENCE, gates, started

import eram

AT_ONCE = {"strategy": "fixed", "base": "0 seconds"}


@eram.job(backoff=AT_ONCE)
def pass_through(job):
    return {"run": job.run}


@eram.job(backoff=AT_ONCE)
def hold(job, name, size=0):
    """Say that this run has begun, and end when the test lets it; leave so many bytes behind."""
    started[f"{name} {job.run}"].set()
    assert gates[f"{name} {job.run}"].wait(PATIENCE)
    return {"run": job.run, "ballast": secrets.token_hex(size // 2)}


@eram.job(transaction=True, backoff=AT_ONCE, timeout=5)
def insert(job, conn):
    """Do what nothing but the timeout ends when the network swallows it."""
    conn.execute("insert into effects values (%s)", (job.id,))


@eram.job(transaction=True, backoff=AT_ONCE)
def insert_and_hold(job, conn, name):
    """Hold after the insert, in the first attempt."""
    conn.execute("insert into effects values (%s)", (job.id,))
    if job.attempt == 1:
        started[name].set()
        assert gates[name].wait(PATIENCE)
