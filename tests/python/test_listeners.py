"""Listeners: told once of each final outcome that the server took, and unable to do any harm."""

from __future__ import annotations

import logging
import os
import threading

import pytest
import sample_jobs
import timed_jobs
from helpers import PATIENCE, eventually, job_of, wait_for_state

import eram
from eram._jobs import listeners
from eram._runtime import notifier as notifier_module
from eram._runtime.notifier import Notifier


@pytest.fixture
def start_worker(start_worker):
    def start(**options):
        return start_worker(**{"allow": ["timed_jobs", "sample_jobs"], **options})

    return start


@pytest.fixture
def heard():
    """What was heard, as (kind, job id, outcome); of all handlers, or of one."""
    heard = []
    ends = []

    def listen(handler=None):
        ends.append(eram.on_success(handler, lambda job, outcome: put("success", job, outcome)))
        ends.append(eram.on_failure(handler, lambda job, outcome: put("failure", job, outcome)))
        return heard

    def put(kind, job, outcome):
        heard.append((kind, job.id, outcome))

    yield listen
    for end in ends:
        end()
    assert listeners._successes == listeners._failures == []


def run_all(conn, *handlers):
    """Run jobs one after the other to their ends; return their ids."""
    ids = []
    for handler, args in handlers:
        answer = handler.enqueue(conn, **args)
        wait_for_state(conn, answer.id, "completed", "discarded", "cancelled")
        ids.append(answer.id)
    return ids


def test_success_and_failure_are_told(conn, start_worker, heard):
    outcomes = heard()
    start_worker()
    one, two, three = run_all(
        conn,
        (sample_jobs.echo, {"a": [1, None]}),
        (sample_jobs.nothing, {}),
        (sample_jobs.give_up, {}),
    )
    eventually(lambda: len(outcomes) == 3)
    assert outcomes == [
        ("success", one, eram.Outcome("completed", {"a": [1, None]})),
        ("success", two, eram.Outcome("completed", None)),
        ("failure", three, eram.Outcome("discarded", None, "no such customer")),
    ]


def test_only_final_outcomes_are_told_and_once_each(conn, start_worker, heard):
    """A retried error is not one, nor is a snooze or a cancel."""
    outcomes = heard()
    worker = start_worker()
    ids = run_all(
        conn,
        (sample_jobs.fail.options(max_attempts=3), {}),
        (sample_jobs.snooze_twice, {}),
        (sample_jobs.call_off, {}),
        (timed_jobs.ask_again, {"reason": "busy"}),
        (timed_jobs.heed, {}),
    )
    worker.stop()
    assert worker.join(PATIENCE)
    assert [(kind, job_id, outcome.error) for kind, job_id, outcome in outcomes] == [
        ("failure", ids[0], "ValueError: bad address"),
        ("success", ids[1], None),
        ("failure", ids[3], "busy"),
        ("failure", ids[4], "timed out after 0.3 s"),
    ]


def test_listener_hears_its_handler_alone(conn, start_worker, heard):
    by_handler = heard(sample_jobs.echo)
    by_path = []
    end = eram.on_success("sample_jobs:nothing", lambda job, outcome: by_path.append(job.id))
    worker = start_worker()
    ids = run_all(conn, (sample_jobs.echo, {}), (sample_jobs.nothing, {}), (sample_jobs.fail, {}))
    worker.stop()
    assert worker.join(PATIENCE)
    end()
    assert [job_id for _, job_id, _ in by_handler] == ids[:1]
    assert by_path == ids[1:2]


def test_jobs_in_transactions_count_too(conn, start_worker, heard):
    conn.execute("create table effects (value bigint)")
    conn.execute("create table checked (value int unique deferrable initially deferred)")
    outcomes = heard()
    worker = start_worker()
    done, failed = run_all(
        conn,
        (timed_jobs.insert_quickly, {}),
        (sample_jobs.insert_and.options(max_attempts=1), {"what": "violate at commit"}),
    )
    worker.stop()
    assert worker.join(PATIENCE)
    assert [(kind, job_id) for kind, job_id, _ in outcomes] == [
        ("success", done),
        ("failure", failed),
    ]
    assert outcomes[0][2].result == {"inserted": True}


def test_what_the_server_did_not_take_is_not_told(conn, start_worker, heard, caplog):
    outcomes = heard()
    worker = start_worker()
    answer = sample_jobs.wait.enqueue(conn, name="a")
    assert sample_jobs.started["a"].wait(PATIENCE)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    sample_jobs.gates["a"].set()
    worker.stop()
    assert worker.join(PATIENCE)
    assert f"lost job {answer.id}" in caplog.text
    assert outcomes == []


def test_what_the_server_refuses_is_told_as_it_ended(conn, dsn, start_worker, heard):
    """One result of a batch is refused by its contents; the others are completed."""
    outcomes = heard()
    conn.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin"
        " if new.result = '7' then raise data_exception; end if; return new; end; $$"
    )
    conn.execute(
        "create trigger refuse before insert on eram_finished_jobs"
        " for each row execute function refuse()"
    )
    worker = start_worker()
    answers = eram.enqueue_many(
        conn,
        [
            {"handler": "timed_jobs:say", "args": {"what": number}, "max_attempts": 1}
            for number in range(40)
        ],
    )
    for answer in answers:
        wait_for_state(conn, answer.id, "completed", "discarded")
    worker.stop()
    assert worker.join(PATIENCE)
    assert sorted((job_id, kind) for kind, job_id, _ in outcomes) == [
        (answer.id, "failure" if number == 7 else "success")
        for number, answer in enumerate(answers)
    ]


def test_who_unsubscribes_hears_no_more(conn, start_worker, heard):
    outcomes = heard()
    first = []
    end = eram.on_success(None, lambda job, outcome: first.append(job.id))
    worker = start_worker()
    run_all(conn, (sample_jobs.nothing, {}))
    eventually(lambda: first)
    end()
    end()
    run_all(conn, (sample_jobs.nothing, {}))
    worker.stop()
    assert worker.join(PATIENCE)
    assert (len(first), len(outcomes)) == (1, 2)


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("leaving")])
def test_listener_that_raises_harms_nothing(conn, start_worker, heard, caplog, error):
    def break_down(job, outcome):
        raise error

    end = eram.on_success(None, break_down)
    outcomes = heard()
    worker = start_worker()
    ids = run_all(conn, (sample_jobs.nothing, {}), (sample_jobs.nothing, {}))
    worker.stop()
    assert worker.join(PATIENCE)
    end()
    assert [job_id for _, job_id, _ in outcomes] == ids
    assert [job_of(conn, job_id)["state"] for job_id in ids] == ["completed"] * 2
    records = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [record.job_id for record in records] == ids
    assert "break_down" in records[0].getMessage()


def test_slow_listener_holds_up_no_jobs_and_is_waited_for(conn, start_worker, heard):
    gate = threading.Event()
    heard_ids = []

    def dawdle(job, outcome):
        assert gate.wait(PATIENCE)
        heard_ids.append(job.id)

    end = eram.on_success(None, dawdle)
    worker = start_worker(queues={"default": 1})
    ids = run_all(conn, *[(sample_jobs.nothing, {})] * 3)
    assert worker.untold == 3
    worker.stop()
    assert not worker.join(0.5)
    gate.set()
    assert worker.join(PATIENCE)
    assert worker.untold == 0
    end()
    assert heard_ids == ids


def test_listener_may_stop_its_worker(conn, start_worker):
    answers = []

    def stop(job, outcome):
        worker.stop()
        answers.append(worker.join(0.1))

    worker = start_worker()
    end = eram.on_success(None, stop)
    run_all(conn, (sample_jobs.nothing, {}))
    assert worker.join(PATIENCE)
    end()
    assert answers == [False]


def test_child_that_a_listener_forks_ends(conn, start_worker):
    codes = []

    def fork(job, outcome):
        child = os.fork()
        if child:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    end = eram.on_success(None, fork)
    worker = start_worker()
    run_all(conn, (sample_jobs.nothing, {}))
    worker.stop()
    assert worker.join(PATIENCE)
    end()
    assert codes == [1]


def test_without_listeners_there_is_no_thread(conn, start_worker):
    start_worker()
    run_all(conn, (sample_jobs.nothing, {}))
    assert "eram-listeners" not in {thread.name for thread in threading.enumerate()}


def test_long_backlog_is_said(monkeypatch, caplog):
    monkeypatch.setattr(notifier_module, "LONG_BACKLOG", 2)
    gate = threading.Event()
    end = eram.on_failure(None, lambda job, outcome: gate.wait(PATIENCE))
    notifier = Notifier()
    for number in range(8):
        row = (number, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None)
        notifier.discarded(eram.Job(row), "x")
    gate.set()
    notifier.close()
    assert notifier.join(PATIENCE)
    end()
    assert caplog.text.count("listeners are slow") == 2


async def listen_async(job, outcome):
    pass


@pytest.mark.parametrize(
    ("handler", "listener", "message"),
    [
        (sample_jobs.plain, print, "handler must be"),
        (7, print, "handler must be"),
        (None, "print", "a listener must be a function"),
        (None, listen_async, "that is not async"),
    ],
)
def test_what_cannot_listen_is_refused(handler, listener, message):
    for subscribe in (eram.on_success, eram.on_failure):
        with pytest.raises(TypeError, match=message):
            subscribe(handler, listener)


def test_worker_without_listeners_leaves_nothing_untold(start_worker):
    worker = start_worker()
    worker.stop()
    assert worker.join(PATIENCE)
    assert worker.untold == 0


def test_result_that_cannot_be_read_ends_no_thread(heard, caplog):
    outcomes = heard()
    notifier = Notifier()
    job = eram.Job((1, 1, "a:b", b"\1{}", b"\1{}", [], "q", 0, 1, 1, 0, 0, 0, None))
    notifier.completed(job, "[" * 100_000)
    notifier.completed(job, '"after"')
    notifier.close()
    assert notifier.join(PATIENCE)
    assert outcomes == [("success", 1, eram.Outcome("completed", "after"))]
    assert "listeners cannot be told the result of job 1" in caplog.text
