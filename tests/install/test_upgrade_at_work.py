"""Workers go on while eram is upgraded under their hands, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import eram
from eram._server import extension
from eram.install import install
from eram.upgrade import upgrade
from install.in_use import value
from install.next_version import NEXT, VERSION, upgrade_script, write_sources

PATIENCE = 60
WORKERS = 2
JOBS_BETWEEN = 60

# What hot paths read and write: tables, and the type of what a fetch returns.
HARD = """
    alter table eram_job_specs add column novelty text;
    alter table eram_queued_jobs add column novelty text;
    alter table eram_running_jobs add column novelty text;
    alter table eram_finished_jobs add column novelty text;
    alter table eram_workers add column novelty text;
    create index eram_novel_idx on eram_finished_jobs (worker);
    alter type eram_claimed_job add attribute novelty text;
"""
LAST_VALUE = "        specs.timeout\n"


@contextlib.contextmanager
def at_work(dsn: str, folder: Path) -> Iterator[list[subprocess.Popen]]:
    """Run worker processes, which must all live in the end, and end as they should."""
    environment = {
        **os.environ,
        "EVIDENCE": dsn,
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        ),
    }
    options = ("--dsn", dsn, "--allow", "upgrade_jobs", "--queue", "default=3")
    with contextlib.ExitStack() as ending:
        workers = []
        for number in range(WORKERS):
            log = ending.enter_context((folder / f"log-{number}").open("w"))
            command = [sys.executable, "-m", "eram.worker", *options, "--name", f"w{number}"]
            worker = subprocess.Popen(command, env=environment, stderr=log)
            ending.callback(worker.wait, PATIENCE)
            ending.callback(worker.kill)
            workers.append(worker)
        yield workers
        for worker in workers:
            assert worker.poll() is None
            worker.terminate()
        assert [worker.wait(PATIENCE) for worker in workers] == [0] * WORKERS


class Producer(threading.Thread):
    """Enqueues all the time, until it is told to end."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self._is_over = threading.Event()
        self.count = 0

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self._is_over.wait(0.002):
                try:
                    eram.enqueue(conn, "upgrade_jobs:leave_trace", {"number": self.count})
                # The upgrade holds what this needs, and the other way round: it was rolled back.
                except psycopg.errors.DeadlockDetected:
                    continue
                self.count += 1

    def stop(self) -> None:
        self._is_over.set()
        self.join(PATIENCE)


def wait_for(conn: psycopg.Connection, query: str, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := value(conn, query)) < number:
        assert time.monotonic() < deadline, f"{query}: {found} of {number}"
        time.sleep(0.02)


def upgrade_with_patience(conn: psycopg.Connection) -> None:
    """Upgrade; one that met a deadlock with workers was undone, and is begun again."""
    for _ in range(10):
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            assert upgrade(conn).version == NEXT
            return
    pytest.fail("ten deadlocks one after another")


@pytest.mark.parametrize("way", ["extension", "script"])
def test_nothing_is_lost_by_an_upgrade_under_running_workers(
    bare_dsn, tmp_path, monkeypatch, server_folder, way
):
    sources = write_sources(tmp_path)
    fetch = (sources / "functions" / "claim" / "fetch.sql").read_text(encoding="utf-8")
    assert LAST_VALUE in fetch
    more = fetch.replace(LAST_VALUE, f"{LAST_VALUE.rstrip()},\n        'new'\n")
    text = upgrade_script(sources) + HARD + more
    scripts = [sources / "upgrades" / f"eram--{VERSION}--{NEXT}.sql"]
    if way == "extension":
        scripts.append(server_folder / scripts[0].name)
    with contextlib.ExitStack() as ending:
        conn = ending.enter_context(psycopg.connect(bare_dsn, autocommit=True))
        if way == "extension":
            conn.execute("create extension eram")
        else:
            install(conn)
        conn.execute("create table traces (number int, job_id bigint, run int)")
        for script in scripts:
            ending.callback(script.unlink)
            script.write_text(text, encoding="utf-8")
            script.chmod(0o644)
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        ending.enter_context(at_work(bare_dsn, tmp_path))
        producer = Producer(bare_dsn)
        producer.start()
        ending.callback(producer.stop)
        traces = "select count(*) from traces"
        wait_for(conn, traces, JOBS_BETWEEN)
        upgrade_with_patience(conn)
        wait_for(conn, traces, value(conn, traces) + JOBS_BETWEEN)
        producer.stop()
        assert not producer.is_alive()
        wait_for(conn, "select count(*) from eram_jobs where state = 'completed'", producer.count)

        assert value(conn, "select eram_version()") == NEXT
        alive = value(conn, "select max(id) from eram_workers where ended_at is null")
        assert value(conn, "select count(novelty) from eram_fetch('none', 1, %s)", alive) == 0
        # Each job was run, and more than once only if an attempt is known to have failed.
        unexplained = """
            select count(*)
            from traces
            left join eram_job_errors as errors using (job_id, run)
            join eram_finished_jobs as finished using (job_id)
            where errors.job_id is null and finished.run <> traces.run
        """
        assert value(conn, unexplained) == 0
        assert value(conn, "select count(distinct number) from traces") == producer.count
        assert conn.execute("select * from eram_check()").fetchall() == []
    for log in tmp_path.glob("log-*"):
        said = log.read_text(encoding="utf-8")
        assert "Traceback" not in said
        assert "ERROR" not in said
