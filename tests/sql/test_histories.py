"""Random histories: after every step the views agree with each other and with a simple model."""

from __future__ import annotations

import dataclasses
import os
import random
from typing import Any

import pytest

from .helpers import column, enqueue, fetch_sweeping, rows, start_worker, value

SEED = int(os.environ.get("ERAM_TEST_SEED", "20240229"))
STEPS = 250


@dataclasses.dataclass
class Model:
    """What a job should look like."""

    state: str
    max_attempts: int
    attempt: int = 0
    run: int = 0
    errors: int = 0


class History:
    """Does something at random, and keeps book of what should come of it."""

    def __init__(self, conn: Any, seed: int) -> None:
        self.conn = conn
        self.rnd = random.Random(seed)
        self.worker = start_worker(conn)
        self.jobs: dict[int, Model] = {}

    def step(self) -> None:
        """Do one thing."""
        actions = [self.enqueue, self.fetch, self.complete, self.fail, self.snooze, self.discard]
        actions += [self.release, self.cancel, self.stale, self.rescue, self.restart]
        self.rnd.choices(actions, weights=[6, 6, 3, 5, 2, 1, 2, 2, 2, 1, 1])[0]()

    def pick(self, *states: str) -> int | None:
        """Pick a job in one of these states."""
        ids = [job_id for job_id, job in self.jobs.items() if job.state in states]
        return self.rnd.choice(ids) if ids else None

    def enqueue(self) -> None:
        max_attempts, delay = self.rnd.choice([1, 2, 20]), self.rnd.choice([0, 0, 3600])
        job_id = enqueue(
            self.conn, max_attempts=max_attempts, delay=delay, priority=self.rnd.randint(0, 9)
        )
        self.jobs[job_id] = Model("scheduled" if delay else "available", max_attempts)

    def fetch(self) -> None:
        due = {job_id for job_id, job in self.jobs.items() if job.state == "available"}
        claimed = fetch_sweeping(self.conn, self.worker)
        assert {job.id for job in claimed} == due
        for job in claimed:
            model = self.jobs[job.id]
            model.state, model.attempt, model.run = "executing", model.attempt + 1, model.run + 1
            assert (job.run, job.attempt) == (model.run, model.attempt)

    def complete(self) -> None:
        if (job_id := self.pick("executing")) is not None:
            job = self.jobs[job_id]
            done = column(self.conn, "select eram_complete_jobs(%s, %s)", [job_id], [job.run])
            assert done == [job_id]
            job.state = "completed"

    def fail(self) -> None:
        if (job_id := self.pick("executing")) is not None:
            job, delay = self.jobs[job_id], self.rnd.choice(["0", None])
            call = "select eram_fail_job(%s, %s, 'x', delay => %s)"
            state = value(self.conn, call, job_id, job.run, delay)
            is_last = job.attempt >= job.max_attempts
            assert state == ("discarded" if is_last else "retryable")
            job.state = "discarded" if is_last else "available" if delay else "retryable"
            job.errors += 1

    def snooze(self) -> None:
        if (job_id := self.pick("executing")) is not None:
            job, delay = self.jobs[job_id], self.rnd.choice(["0", "1 hour"])
            assert value(self.conn, "select eram_snooze_job(%s, %s, %s)", job_id, job.run, delay)
            job.attempt -= 1
            job.state = self.waiting(job) if delay != "0" else "available"

    def waiting(self, job: Model) -> str:
        return "retryable" if job.attempt else "scheduled"

    def discard(self) -> None:
        if (job_id := self.pick("executing")) is not None:
            job = self.jobs[job_id]
            assert value(self.conn, "select eram_discard_job(%s, %s)", job_id, job.run)
            job.state, job.errors = "discarded", job.errors + 1

    def release(self) -> None:
        if (job_id := self.pick("executing")) is not None:
            job = self.jobs[job_id]
            given = column(self.conn, "select eram_release_jobs(%s, %s)", [job_id], [job.run])
            assert given == [job_id]
            job.state, job.attempt = "available", job.attempt - 1

    def cancel(self) -> None:
        if self.jobs:
            job_id, reason = self.rnd.choice(sorted(self.jobs)), self.rnd.choice([None, "by order"])
            job = self.jobs[job_id]
            is_live = job.state not in ("completed", "discarded", "cancelled")
            answer = value(self.conn, "select eram_cancel_job(%s, %s)", job_id, reason)
            assert answer is is_live
            if is_live:
                if job.state != "executing":
                    job.run += 1
                job.state, job.errors = "cancelled", job.errors + bool(reason)

    def stale(self) -> None:
        """Finish with a run that is not the job's."""
        if (job_id := self.pick("executing", "available", "completed", "retryable")) is not None:
            run = self.jobs[job_id].run - (1 if self.jobs[job_id].state == "executing" else 0)
            assert column(self.conn, "select eram_complete_jobs(%s, %s)", [job_id], [run]) == []
            assert value(self.conn, "select eram_fail_job(%s, %s, 'x')", job_id, run) is None

    def rescue(self) -> None:
        """Let the jobs' worker turn out never to have been."""
        self.conn.execute("update eram_running_jobs set worker = 4711")
        self.conn.execute("select set_config('eram.rescue_swept', '', false)")
        running = [job for job in self.jobs.values() if job.state == "executing"]
        assert value(self.conn, "select eram_rescue_jobs()") == len(running)
        for job in running:
            job.state = "available" if job.attempt < job.max_attempts else "discarded"
            job.errors += 1

    def restart(self) -> None:
        """Stop the worker, which gives back what it holds, and start another."""
        self.conn.execute("select eram_stop_worker(%s)", [self.worker])
        self.worker = start_worker(self.conn)
        for job in self.jobs.values():
            if job.state == "executing":
                job.state, job.attempt = "available", job.attempt - 1

    def check(self) -> None:
        """Compare the views with each other and with the book."""
        query = "select * from {} order by id"
        seen = rows(self.conn, query.format("eram_jobs"))
        assert seen == rows(self.conn, query.format("eram_latest_jobs"))
        found = {
            job.id: (job.state, job.attempt, job.max_attempts, len(job.errors or []))
            for job in seen
        }
        assert found == {
            job_id: (job.state, job.attempt, job.max_attempts, job.errors)
            for job_id, job in self.jobs.items()
        }
        places = column(
            self.conn,
            """
            select run from eram_queued_jobs union all select run from eram_running_jobs
            union all select run from eram_finished_jobs
            """,
        )
        assert sorted(places) == sorted(job.run for job in self.jobs.values())
        assert rows(self.conn, "select * from eram_check()") == []


@pytest.mark.parametrize("number", range(3))
def test_a_random_history(conn, number):
    print(f"ERAM_TEST_SEED={SEED}")
    history = History(conn, SEED + number)
    for _ in range(STEPS):
        history.step()
        history.check()
    assert {job.state for job in history.jobs.values()} >= {"completed", "discarded", "cancelled"}
