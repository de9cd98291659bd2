"""The primary is lost under load, the standby promoted: nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import database, evidence, history
from chaos.administrator import Administrator
from chaos.checker import check
from chaos.evidence import Record
from chaos.failover import Pair, start_pair
from chaos.harms import World
from chaos.processes import Producer, Worker
from chaos.run import SERVER_SETTINGS, Report, everybody, settle, wait_for_workers
from chaos.show import text

JOBS_BEFORE, JOBS_AFTER = 150, 150
PATIENCE = 60.0


@contextlib.contextmanager
def world_of(pair: Pair, directory: Path, record: Record) -> Iterator[World]:
    """Workers and producers that go to whichever server can be written to."""
    world = World(pair.standby, record, Administrator(pair.standby.dsn, record))
    for number in range(3):
        dsn = pair.dsn(database.WORKER_ROLE)
        world.workers.append(Worker(f"worker-{number}", directory, record, dsn=dsn))
    for number in range(2):
        dsn = pair.dsn(database.PRODUCER_ROLE)
        name = f"producer-{number}"
        world.producers.append(Producer(name, directory, record, dsn=dsn, seed=1, pause=0.05))
    with contextlib.ExitStack() as stack:
        for process in everybody(world):
            stack.callback(process.kill)
            process.start()
        yield world


def wait_for_jobs(dsn: str, count: int) -> int:
    """Wait until so many jobs have ended; return how many there are."""
    query = "select (select count(*) from eram_finished_jobs), count(*) from eram_job_specs"
    deadline = time.monotonic() + PATIENCE
    with database.connect(dsn) as conn:
        while True:
            ((ended, stored),) = conn.execute(query).fetchall()
            if ended >= count:
                return int(stored)
            assert time.monotonic() < deadline, f"{ended} jobs of {stored} have ended"
            time.sleep(0.05)


@pytest.mark.timeout(300)
def test_failover_loses_nothing_that_was_acknowledged(server_bin_dir):
    # Short, because sockets lie there.
    with tempfile.TemporaryDirectory(prefix="eram-chaos-") as name:
        directory = Path(name) / "evidence"
        directory.mkdir()
        record = Record(directory)
        with start_pair(Path(name), SERVER_SETTINGS, bin_dir=server_bin_dir) as pair:
            with world_of(pair, directory, record) as world:
                wait_for_workers(pair.primary.dsn, len(world.workers))
                wait_for_jobs(pair.primary.dsn, JOBS_BEFORE)

                record.write("harm begun", harm=1, kind="failover", victims=None)
                failed_at = time.monotonic_ns()
                world.workers[0].kill()
                pair.fail_over()
                promoted_at = time.monotonic_ns()
                world.workers[0].start()
                record.write("harm ended", harm=1)

                stored = wait_for_jobs(pair.standby.dsn, JOBS_BEFORE)
                wait_for_jobs(pair.standby.dsn, stored + JOBS_AFTER)
                schedules, stuck = settle(world, pair.first)
            with database.connect(pair.standby.dsn) as conn:
                final = database.read_final(conn, schedules, stuck)
        judged = history.read(evidence.read_all(directory), final, world.complaints)
    record.close()

    report = Report(0, check(judged), judged)
    assert report.faults == [], f"\n{text(report)}"
    before = [call for call in judged.calls if call.ended_at < failed_at]
    after = [call for call in judged.calls if call.begun_at > promoted_at]
    for calls in (before, after):
        assert sum(call.came_to == "committed" for call in calls) > JOBS_BEFORE / 10
    assert {run.pid for run in judged.runs if run.begun_at < failed_at} & {
        run.pid for run in judged.runs if run.begun_at > promoted_at
    }, "no worker has followed"
