"""Handlers for the tests. Those of a worker in the same process meet their test at the events."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import psycopg

import eram

# Events by name, so that each test has its own: set by a handler, or waited for by it.


class Events(dict[str, threading.Event]):
    """Makes events as they are asked for; two threads that ask at once have the same one."""

    def __missing__(self, name: str) -> threading.Event:
        return self.setdefault(name, threading.Event())


started = Events()
gates = Events()
seen: list[object] = []

PATIENCE = 30


@eram.job
def nothing(job):
    pass


@eram.job
def note(job, what):
    seen.append(what)


@eram.job
def echo(job, **values):
    return values


@eram.job(queue="mail", priority=3, max_attempts=5, tags=["outgoing"], meta={"by": "decorator"})
def mail(job, to, subject="hello"):
    return {"to": to, "subject": subject}


@eram.job
def describe(job):
    return {
        "id": job.id,
        "run": job.run,
        "handler": job.handler,
        "args": job.args,
        "meta": job.meta,
        "tags": list(job.tags),
        "queue": job.queue,
        "priority": job.priority,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "inserted_at": job.inserted_at.isoformat(),
        "scheduled_at": job.scheduled_at.isoformat(),
        "attempted_at": job.attempted_at.isoformat(),
    }


@eram.job(backoff={"strategy": "fixed", "base": "0 seconds"})
def fail(job, message="bad address"):
    raise ValueError(message)


@eram.job(backoff={"strategy": "fixed", "base": "0 seconds"})
def fail_badly(job):
    raise ValueError("bad \0 \ud800 address \u0142")


@eram.job
def leave(job):
    raise SystemExit("leaving")


@eram.job
def snooze_twice(job):
    return eram.Snooze(0.01) if job.run <= 2 else {"run": job.run, "attempt": job.attempt}


@eram.job
def snooze_for_ages(job):
    return eram.Snooze(80_000_000_000_000)


@eram.job
def call_off(job, reason=None):
    return eram.Cancel(reason)


@eram.job
def give_up(job):
    return eram.Discard("no such customer")


@eram.job
def return_what(job, kind):
    return {
        "nul": "a\0b",
        "escaped": r"a\u0000b",
        "surrogate": "\ud800",
        "emoji": "\U0001f600",
        "nan": float("nan"),
        "object": object(),
        "deep": nested(900),
        "quotes": '"\\{},null',
    }[kind]


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@eram.job
def wait(job, name):
    """Say that it has begun, and end when the test opens the gate."""
    started[name].set()
    assert gates[name].wait(PATIENCE)
    return {"run": job.run}


@eram.job(max_attempts=2)
def wait_and(job, name, end):
    """End in some way when the test opens the gate."""
    started[name].set()
    assert gates[name].wait(PATIENCE)
    match end:
        case "raise":
            raise ValueError("at the gate")
        case "snooze":
            return eram.Snooze(3600)
        case "cancel":
            return eram.Cancel("at the gate")
        case "discard":
            return eram.Discard("at the gate")
        case _:
            return {"run": job.run}


@eram.job
def wait_for_file(job, path):
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@eram.job
def wait_for_cancel(job, name):
    started[name].set()
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not job.cancelled and time.monotonic() < deadline:
        pause.wait(0.01)
    seen.append(job.cancelled)


@eram.job
def append_line(job, path, seconds=0.0):
    """Leave a line when it begins and one when it ends, for a test in another process."""
    with Path(path).open("a") as file:
        file.write(f"begin {job.id} {job.run} {os.getpid()}\n")
        file.flush()
        time.sleep(seconds)
        file.write(f"end {job.id} {job.run} {os.getpid()}\n")


@eram.job
def die(job):
    os.kill(os.getpid(), signal.SIGKILL)


def leave_in_str(error):
    raise SystemExit("from __str__")


@eram.job
def fail_to_say_why(job, how):
    """Raise what nobody can put into words."""
    match how:
        case "its text leaves":
            raise type("LeavingError", (Exception,), {"__str__": leave_in_str})
        case "its traceback breaks":
            raise SyntaxError("broken", ("file", 1, 1, b"text"))


@eram.job
def fork_and_wait(job, path):
    """Leave the pid of a child that outlives this process; do so once only."""
    if job.run > 1:
        return
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    Path(path).write_text(f"{child.pid}\n")
    time.sleep(PATIENCE)


@eram.job
def fork_and_go_on(job, way):
    """Let a child come out of the handler, as if it were the worker."""
    child = os.fork()
    if child:
        return {"child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}
    if way == "raise":
        raise ValueError("in the child")
    return "from the child"


def say_and_sleep(has_begun):
    has_begun.set()
    time.sleep(PATIENCE)


def say_and_compute(has_begun):
    """Call nothing that a signal could interrupt."""
    has_begun.set()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        pass


@eram.job
def terminate_child(job, *, computes=False):
    context = multiprocessing.get_context("fork")
    has_begun = context.Event()
    target = say_and_compute if computes else say_and_sleep
    child = context.Process(target=target, args=(has_begun,))
    child.start()
    assert has_begun.wait(PATIENCE)
    child.terminate()
    child.join()
    return {"child": child.exitcode}


@eram.job(transaction=True)
def fork_in_transaction(job, conn, way):
    """Let a child use and leave the transaction that it has inherited."""
    conn.execute("insert into effects values (1)")
    child = os.fork()
    if not child:
        if way == "use":
            conn.execute("insert into effects values (2)")
        elif way == "close":
            conn.close()
        return
    os.waitpid(child, 0)
    conn.execute("insert into effects values (3)")


@eram.job(transaction=True)
def insert(job, conn, value):
    conn.execute("insert into effects values (%s)", (value,))
    return {"value": value}


@eram.job(transaction=True, backoff={"strategy": "fixed", "base": "1 hour"})
def insert_and(job, conn, what, name=""):
    """Insert a row, and then do what must keep it from staying there."""
    if what == "change isolation":
        conn.execute("set transaction isolation level serializable")
    conn.execute("insert into effects values (%s)", (job.id,))
    match what:
        case "raise":
            raise ValueError("after the insert")
        case "snooze":
            return eram.Snooze(3600)
        case "discard":
            return eram.Discard("after the insert")
        case "cancel":
            return eram.Cancel("after the insert")
        case "return an object":
            return object()
        case "break":
            try:
                conn.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                return None
        case "rollback":
            conn.rollback()
        case "rollback in sql":
            conn.execute("rollback")
        case "begin anew":
            conn.execute("rollback")
            conn.execute("begin")
        case "commit in sql":
            conn.execute("commit")
        case "end its own job":
            conn.execute("select eram_cancel_job(%s)", (job.id,))
        case "leave a stream" | "leave a stream and raise":
            stream = conn.cursor().stream("select generate_series(1, 1000000)")
            seen.append((stream, next(stream)))
            if what.endswith("raise"):
                raise ValueError("after the stream")
        case "leave a copy":
            copy = conn.cursor().copy("copy effects from stdin")
            seen.append((copy, copy.__enter__()))
        case "close":
            conn.close()
        case "violate at commit":
            conn.execute("insert into checked values (1)")
            conn.execute("insert into checked values (1)")
        case "wait":
            started[name].set()
            assert gates[name].wait(PATIENCE)
        case "change isolation" | "say isolation":
            return conn.execute("show transaction_isolation").fetchone()[0]
    return None


def plain(job):
    """Not a job: nobody decorated it."""


not_callable = "text"
