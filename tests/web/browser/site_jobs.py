"""Handlers for the jobs that the page shows."""

from __future__ import annotations

import threading

import eram

gate = threading.Event()

# What a page must show as it is, and a browser must not run.
HOSTILE = "<img src=x onerror=\"window.harmed='img'\"><script>window.harmed='script'</script>&amp;"


@eram.job
def echo(job, **values):
    return values


@eram.job(backoff={"strategy": "fixed", "base": "1 hour"})
def fail(job, message="the mail server has gone away"):
    raise ValueError(message)


@eram.job
def hold(job):
    gate.wait(120)
