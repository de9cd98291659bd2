"""A handler that leaves its traces in the test's own table, whatever becomes of the job."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg

import eram

PATIENCE = 60


@eram.job
def hold(job, gate):
    """Say that a run has begun, and end when the gate is open: for all, or for this process."""
    with psycopg.connect(os.environ["EVIDENCE"], autocommit=True) as conn:
        conn.execute(
            "insert into runs values (%s, %s, %s, clock_timestamp())",
            (job.id, job.run, os.getpid()),
        )
    gates = [Path(gate), Path(f"{gate}.{os.getpid()}")]
    deadline = time.monotonic() + PATIENCE
    while not any(each.exists() for each in gates) and time.monotonic() < deadline:
        time.sleep(0.02)
    return {"run": job.run, "pid": os.getpid()}
