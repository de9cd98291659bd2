"""What the tests of attacks share: an eram of an ordinary owner, one session for each role."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from databases import fresh_database
from eram.install import install
from sql.helpers import value, wait_until
from sql.role_helpers import Place

ODD = 'Jobs of "us"'
WAYS = ("extension", "script")
WHATS = ("enqueue", "work", "read", "admin")


@contextlib.contextmanager
def make_place(server, way: str) -> Iterator[Place]:
    """Install eram into a schema of its own, as the owner of a database, in one of two ways."""
    with fresh_database(server, "template1") as dsn:
        place = Place(dsn, ODD)
        try:
            if way == "extension":
                schema = sql.Identifier(ODD)
                place.owner.execute(sql.SQL("create extension eram schema {}").format(schema))
            else:
                install(place.owner)
            yield place
        finally:
            place.close()


class Caller:
    """Calls functions of eram by their qualified names, so that only their inside is at stake."""

    def __init__(self, conn: psycopg.Connection, schema: str) -> None:
        self.conn = conn
        self._schema = sql.Identifier(schema).as_string(conn)

    def rows(self, call: str) -> list[tuple]:
        """Select from what a function returns. Literals of the call take the types they need."""
        return self.conn.execute(f"select * from {self._schema}.{call}".encode()).fetchall()

    def value(self, call: str):
        (row,) = self.rows(call)
        return row[0]

    def call(self, call: str) -> None:
        self.conn.execute(f"call {self._schema}.{call}".encode())


def work_off(place: Place, folder: Path, *, allow: str) -> str:
    """Run a Python worker, with no more rights than it needs, until all jobs have ended."""
    role = place.make_role("work")
    worker = subprocess.Popen(
        [sys.executable, "-m", "eram.worker", "--queue", "default=4", "--allow", allow],
        env={**os.environ, "DATABASE_URL": place.dsn(role), "PYTHONPATH": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        unfinished = "select count(*) = 0 from eram_jobs where finalized_at is null"
        wait_until(lambda: value(place.owner, unfinished), "all jobs have ended", seconds=60)
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=60)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0, log
    return log
