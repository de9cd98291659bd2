"""Whoever works at a standby is told so, in words and by the SQLSTATE."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from replication.test_standby import PATIENCE, pair, standby  # noqa: F401 - fixtures

CALLS = ("select * from eram_heartbeat(2)", "select eram_rescue_jobs()")


@pytest.mark.parametrize("call", CALLS)
def test_sign_of_life_is_refused_as_a_write_is(standby, call):  # noqa: F811 - the fixture
    """A client takes it for an outage, which passes, and not for a mistake of its own."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        standby.execute(call)


def test_worker_says_that_it_is_a_standby(pair):  # noqa: F811 - the fixture
    command = [sys.executable, "-m", "eram", "worker", "--allow", "json", "--dsn", pair[0].second]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "eram.worker: the worker cannot start: the server is a standby, where nothing can be"
        " written; connect to the primary, or name several hosts in the DSN and"
        " target_session_attrs=read-write"
    )
