"""What a worker does with jobs of every kind, the same in each language."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from .helpers import (
    enqueue,
    eventually,
    job_of,
    value,
    wait_for_a_held_up_handler,
    wait_for_state,
)

# Text that breaks out of quotes, shells, SQL, psql, arithmetic and protocols, where one can.
HOSTILE = [
    "$(touch harmed)",
    "`touch harmed`",
    "'; touch harmed; '",
    '"; touch harmed; "',
    "a[$(touch harmed)]",
    "PATH[$(touch harmed)]",
    "'); drop table demo_records; --",
    "\\'); drop table demo_records; --",
    "\\! touch harmed",
    "\n\\! touch harmed\n",
    ":args :'job_id' $1 %s %n {} ${IFS}",
    "$$; select 1; $$",
    "line\nline\r\n\ttab \x1f unit \x01 \x7f",
    "-n -e --help * ? [a] ~ ! #",
    "Ünïcödé 日本語 😀 \u202e \u2028 \ufeff",
    " blanks ",
    "",
]


@pytest.fixture
def no_harm(conn: psycopg.Connection, records: None, tmp_path: Path) -> object:
    """What hostile text tries to do was not done."""
    yield None
    assert list(tmp_path.rglob("harmed")) == []
    assert value(conn, "select to_regclass('demo_records') is not null")


def test_every_outcome(conn, start_worker):
    """Each outcome is reported as what it is, with its result, error or reason."""
    echo = enqueue(conn, "demo:echo", args={"to": ["ada", 1, None]}, queue="a")
    fail = enqueue(conn, "demo:fail", args={"message": "no paper"}, queue="b")
    last = enqueue(conn, "demo:fail", args={"message": "jammed"}, max_attempts=1)
    flaky = enqueue(conn, "demo:flaky", args={"attempts": 3}, backoff={"strategy": "none"})
    snooze = enqueue(conn, "demo:snooze", args={"seconds": 3600})
    discard = enqueue(conn, "demo:discard", args={"reason": "no such account"})
    cancel = enqueue(conn, "demo:cancel", args={"reason": "not wanted"})
    late = enqueue(conn, "demo:sleep", args={"seconds": 600}, timeout=1)
    unknown = enqueue(conn, "nobody:knows")
    unstorable = enqueue(conn, "demo:unstorable")
    worker = start_worker("a=2", "b=2", "default=5")

    assert wait_for_state(conn, echo, "completed", worker)["result"] == {"to": ["ada", 1, None]}
    job = wait_for_state(conn, fail, "retryable", worker)
    assert [(each["attempt"], each["error"]) for each in job["errors"]] == [(1, "no paper")]
    assert job["errors"][0]["type"]
    job = wait_for_state(conn, last, "discarded", worker)
    assert (job["attempt"], job["errors"][0]["error"]) == (1, "jammed")
    job = wait_for_state(conn, flaky, "completed", worker)
    assert (job["attempt"], job["result"]) == (3, {"attempt": 3})
    assert [each["error"] for each in job["errors"]] == ["attempt 1", "attempt 2"]
    job = wait_for_state(conn, snooze, "scheduled", worker)
    assert (job["attempt"], job["errors"]) == (0, None)
    assert value(
        conn,
        "select scheduled_at - now() between interval '55 minutes' and interval '1 hour'"
        " from eram_jobs where id = %s",
        snooze,
    )
    job = wait_for_state(conn, discard, "discarded", worker)
    assert [each["error"] for each in job["errors"]] == ["no such account"]
    job = wait_for_state(conn, cancel, "cancelled", worker)
    assert [each["error"] for each in job["errors"]] == ["not wanted"]
    job = wait_for_state(conn, late, "retryable", worker)
    assert "timed out" in job["errors"][0]["error"]
    job = wait_for_state(conn, unknown, "retryable", worker)
    assert 'no handler "nobody:knows"' in job["errors"][0]["error"]
    job = wait_for_state(conn, unstorable, "retryable", worker)
    assert len(job["errors"]) == 1

    worker.stop()
    ended = conn.execute("select end_reason, is_direct, queues from eram_workers").fetchall()
    assert [(reason, is_direct, sorted(queues)) for reason, is_direct, queues in ended] == [
        ("stopped", True, ["a", "b", "default"])
    ]


def test_hostile_text(conn, start_worker, no_harm):
    """Whatever text comes with a job, it stays text: nothing is run, nothing is lost."""
    long = "long 'text' \\ " * 10_000
    texts = [*HOSTILE, long]
    echoes = [enqueue(conn, "demo:echo", args={"text": text, text: 1}) for text in texts]
    fails = [enqueue(conn, "demo:fail", args={"message": text}) for text in HOSTILE]
    reasons = [enqueue(conn, "demo:discard", args={"reason": text}) for text in HOSTILE]
    words = [enqueue(conn, "demo:record", args={"word": text}) for text in texts]
    numbers = [enqueue(conn, "demo:flaky", args={"attempts": text}) for text in HOSTILE]
    snoozes = [enqueue(conn, "demo:snooze", args={"seconds": text}) for text in HOSTILE]
    names = [
        enqueue(conn, text)
        for text in HOSTILE
        if text.isprintable() and text == text.strip() and text and "{" not in text
    ]
    odd = "'q` $(touch harmed) \\ \""
    elsewhere = enqueue(conn, "demo:echo", args={"a": 1}, queue=odd)
    worker = start_worker("default=8", odd)

    for job_id, text in zip(echoes, texts, strict=True):
        job = wait_for_state(conn, job_id, "completed", worker)
        assert job["result"] == {"text": text, text: 1}
    for job_id, text in zip(fails, HOSTILE, strict=True):
        error = wait_for_state(conn, job_id, "retryable", worker)["errors"][0]["error"]
        # Trailing line feeds may be cut off, and an empty text may be put in words.
        assert error.rstrip("\n") == text.rstrip("\n") or not text
    for job_id, text in zip(reasons, HOSTILE, strict=True):
        error = wait_for_state(conn, job_id, "discarded", worker)["errors"][0]["error"]
        assert error.rstrip("\n") == text.rstrip("\n") or not text
    for job_id in words:
        wait_for_state(conn, job_id, "completed", worker)
    written = conn.execute("select word from demo_records order by job_id").fetchall()
    assert [word for (word,) in written] == texts
    for job_id in names:
        job = wait_for_state(conn, job_id, "retryable", worker)
        assert "this worker has no handler" in job["errors"][0]["error"]
    for job_id in [*numbers, *snoozes]:
        eventually(lambda job_id=job_id: job_of(conn, job_id)["state"] != "available", worker)
    wait_for_state(conn, elsewhere, "completed", worker)
    worker.stop()


def test_cancelling_a_running_job(conn, start_worker):
    """The handler is told, its slot is free again, and what it says later is not accepted."""
    job_id = enqueue(conn, "demo:sleep", args={"seconds": 600})
    worker = start_worker("default=1")
    wait_for_state(conn, job_id, "executing", worker)
    assert value(conn, "select eram_cancel_job(%s, 'not wanted')", job_id)

    # Its only slot is taken until the handler has ended.
    other = enqueue(conn, "demo:echo")
    wait_for_state(conn, other, "completed", worker)
    job = job_of(conn, job_id)
    assert job["state"] == "cancelled"
    assert [each["error"] for each in job["errors"]] == ["not wanted"]
    worker.stop()


def test_sigterm_while_jobs_run(conn, connect, start_worker, records):
    """What runs ends and is reported, what has not begun is not lost, and the end is clean."""
    with connect(autocommit=False) as holder:
        holder.execute("lock table demo_records")
        # Begun in this order: the first runs when the second is held up.
        running = enqueue(conn, "demo:sleep", args={"seconds": 2})
        held_up = enqueue(conn, "demo:record", args={"word": "a"})
        waiting = [enqueue(conn, "demo:echo") for _ in range(3)]
        worker = start_worker("default=2", "more")
        wait_for_a_held_up_handler(conn, worker)
        worker.send(signal.SIGTERM)
        more = enqueue(conn, "demo:echo", queue="more")
        eventually(lambda: "SIGTERM" in worker.log, worker)
    assert worker.wait() == 0, worker.log

    assert [job_of(conn, job_id)["state"] for job_id in (running, held_up)] == ["completed"] * 2
    for job_id in (*waiting, more):
        job = job_of(conn, job_id)
        assert (job["state"], job["attempt"], job["errors"]) == ("available", 0, None)
    assert value(conn, "select array_agg(end_reason) from eram_workers") == ["stopped"]


def test_the_grace_period_ends(conn, connect, start_worker, records):
    """A job that does not end in time is left to be rescued, and the exit code says so."""
    with connect(autocommit=False) as holder:
        holder.execute("lock table demo_records")
        job_id = enqueue(conn, "demo:record", args={"word": "a"})
        worker = start_worker("default=1", ERAM_GRACE_SECONDS="1")
        wait_for_a_held_up_handler(conn, worker)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 1, worker.log
        assert job_of(conn, job_id)["state"] == "executing"
        assert value(conn, "select array_agg(end_reason) from eram_workers") == [None]


def test_a_version_that_it_does_not_know(conn, start_worker):
    conn.execute(
        "create or replace function eram_version() returns text language sql as $$select '9.1.0'$$"
    )
    worker = start_worker()
    assert worker.wait() == 2, worker.log
    assert "eram 9.1.0, which this worker does not know" in worker.log
    assert value(conn, "select count(*) from eram_workers") == 0


def test_jobs_of_a_transaction_are_completed_in_it(conn, connect, start_worker, records):
    """The handler's row and the completion have one transaction id; a cancel takes both back."""
    job_id = enqueue(conn, "demo:record", args={"word": "once"})
    worker = start_worker("default=2")
    job = wait_for_state(conn, job_id, "completed", worker)
    assert job["errors"] is None
    assert value(conn, "select xmin = (select xmin from eram_finished_jobs) from demo_records")

    # Held up in its transaction, it loses its run.
    with connect(autocommit=False) as holder:
        holder.execute("lock table demo_records")
        lost = enqueue(conn, "demo:record", args={"word": "never"})
        wait_for_a_held_up_handler(conn, worker)
        conn.execute("select eram_cancel_job(%s)", (lost,))
    after = enqueue(conn, "demo:record", args={"word": "after"})
    wait_for_state(conn, after, "completed", worker)
    worker.stop()
    assert value(conn, "select array_agg(word order by job_id) from demo_records") == [
        "once",
        "after",
    ]
    assert job_of(conn, lost)["state"] == "cancelled"
