"""The handler that the Python worker shares with the workers of other languages."""

from __future__ import annotations

from typing import Any

import psycopg

import eram


@eram.job(transaction=True)
def record(job: eram.Job, conn: psycopg.Connection[Any], word: str) -> dict[str, str]:
    conn.execute("insert into demo_records (job_id, word) values (%s, %s)", (job.id, word))
    return {"recorded": word}
