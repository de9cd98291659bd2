"""Handlers that look at their context, and middleware around them, for the tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar, copy_context

from sample_jobs import seen

import eram

mark: ContextVar[str] = ContextVar("mark", default="none")


def here():
    """Say whose handler runs here."""
    job = eram.current_job()
    return None if job is None else job.id


async def here_later():
    await asyncio.sleep(0)
    return here()


def in_thread(run):
    """Call something in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


@eram.job
def look(job):
    context = copy_context()
    return [here(), in_thread(here), in_thread(lambda: context.run(here))]


@eram.job
async def look_async(job):
    return [
        here(),
        await here_later(),
        await asyncio.create_task(here_later()),
        *await asyncio.gather(here_later(), here_later()),
        await asyncio.to_thread(here),
        await asyncio.get_running_loop().run_in_executor(None, here),
    ]


@eram.job(transaction=True)
def look_in_transaction(job, conn):
    return [here()]


@eram.job
async def look_async_in_transaction(job, session):
    await session.execute("select 1")
    return [here(), await asyncio.create_task(here_later())]


@eram.job
def leave_a_mark(job):
    before = mark.get()
    mark.set(f"of {job.id}")
    return before


@eram.job
async def leave_a_mark_async(job):
    before = mark.get()
    mark.set(f"of {job.id}")
    await asyncio.sleep(0)
    return [before, mark.get() == f"of {job.id}"]


@eram.job
def change_args(job, words):
    """Change whatever can be changed of what was given."""
    words.append("added")
    job.args["words"].append("more")
    job.args["new"] = 1
    job.meta["new"] = 1
    return {"words": words, "args": job.args}


class Note:
    """Middleware that notes when it is entered and left, and by what."""

    def __init__(self, name):
        self.name = name

    @contextlib.contextmanager
    def __call__(self, job):
        seen.append((f"{self.name} in", here() == job.id))
        try:
            yield
        except BaseException as error:
            seen.append((f"{self.name} out", type(error).__name__))
            raise
        seen.append((f"{self.name} out", None))


outer = Note("outer")
inner = Note("inner")


@contextlib.contextmanager
def suppress(job):
    with contextlib.suppress(Exception):
        yield


@contextlib.contextmanager
def fail_at_first(job):
    seen.append("failing")
    raise ValueError("at the door")
    yield


@contextlib.contextmanager
def fail_at_last(job):
    yield
    raise ValueError("on the way out")


@contextlib.contextmanager
def replace(job):
    try:
        yield
    except ValueError as error:
        raise LookupError("another one") from error


@contextlib.contextmanager
def set_mark(job):
    token = mark.set("by middleware")
    yield
    mark.reset(token)


@eram.job
def say_mark(job):
    return mark.get()


@eram.job
async def say_mark_async(job):
    await asyncio.sleep(0)
    return mark.get()


@eram.job(transaction=True)
def say_mark_in_transaction(job, conn):
    conn.execute("select 1")
    return mark.get()


@eram.job
async def say_mark_async_in_transaction(job, session):
    await session.execute("select 1")
    return mark.get()


@eram.job(backoff={"strategy": "fixed", "base": "1 hour"})
async def fail_async_in_transaction(job, session):
    await session.execute("select 1")
    raise ValueError("in the handler")


@eram.job(backoff={"strategy": "fixed", "base": "1 hour"})
def fail(job):
    raise ValueError("in the handler")


@eram.job(backoff={"strategy": "fixed", "base": "1 hour"})
async def fail_async(job):
    await asyncio.sleep(0)
    raise ValueError("in the handler")


@eram.job(transaction=True, backoff={"strategy": "fixed", "base": "1 hour"})
def fail_in_transaction(job, conn):
    conn.execute("select 1")
    raise ValueError("in the handler")


def undecorated(job):
    yield


@contextlib.asynccontextmanager
async def is_async(job):
    yield


async def coroutine(job):
    pass


not_callable = "text"
