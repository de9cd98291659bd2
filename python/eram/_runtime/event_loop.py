"""The event loop of a queue's async handlers, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from types import FrameType
from typing import Any, Protocol, TypeVar

from eram._jobs.job import Job

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# What handlers have left behind is given so long to end when the loop does.
LEFTOVER_SECONDS = 1.0
# Whatever happens meanwhile.
FINISH_SECONDS = 3.0


class Elsewhere(Protocol):
    """Where jobs of the queue run besides: the engine's main thread."""

    def cancel(self, job: Job) -> None:
        """Cancel what waits or awaits for a job, if anything does."""

    def frames_of(self, job: Job) -> list[FrameType] | None:
        """Return where a job is, outermost first; None if it is not there."""


class _Run:
    """One coroutine, and the thread that waits for it."""

    __slots__ = ("_task", "ended", "error", "is_under_way", "job", "make", "result")

    def __init__(self, job: Job, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.job = job
        self.make = make
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_under_way = False
        self._task: asyncio.Task[None] | None = None
        # A lock that is released at the end costs a fraction of a concurrent.futures.Future.
        self.ended = threading.Lock()
        self.ended.acquire()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make a task of it, in the loop's thread."""
        try:
            self._task = loop.create_task(self._serve(), context=Context())
            self._task.add_done_callback(self._never_began)
        except BaseException as error:
            self.fail(error)
            raise

    def cancel(self) -> None:
        """Cancel it, in the loop's thread, if it has begun; it will see that itself otherwise."""
        if self.is_under_way and self._task is not None:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """Let the thread go that waits."""
        self.error = error
        self.ended.release()

    def frames(self, thread_id: int) -> list[FrameType]:
        """Return where it is, outermost first."""
        return [] if self._task is None else suspended(self._task, thread_id)

    async def _serve(self) -> None:
        self.is_under_way = True
        try:
            self.result = await self.make()
        except BaseException as error:
            self.error = error
        # Not by the callback, for which the loop would have to go round once more.
        if self._task is not None:
            self._task.remove_done_callback(self._never_began)
        self.ended.release()

    def _never_began(self, _: asyncio.Task[None]) -> None:
        self.fail(asyncio.CancelledError("some other task has cancelled it before it began"))


class EventLoop:
    """Runs coroutines for threads that wait for them.

    Who waits is one of the queue's executors, so there are never more at a time than the queue's
    limit. The thread is started for the first of them: without async handlers there is none.

    Args:
        name: what the thread is called.
        elsewhere: where jobs of the queue run besides.
    """

    def __init__(self, name: str, elsewhere: Elsewhere | None = None) -> None:
        self._name = name
        self._elsewhere = elsewhere
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._runs: dict[Job, _Run] = {}
        self._is_closed = False

    def run(self, job: Job, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run a coroutine for a job, in a context of its own, and wait until it has ended.

        What it raises is raised here. It is for the coroutine to see that its job was cancelled
        before it began.
        """
        loop = self._loop or self._start()
        run = self._runs[job] = _Run(job, make)
        try:
            loop.call_soon_threadsafe(run.begin, loop)
            run.ended.acquire()
        finally:
            del self._runs[job]
        if run.error is not None:
            raise run.error
        result: Result = run.result
        return result

    def call(self, make: Callable[[], Coroutine[Any, Any, Result]], timeout: float) -> Result:
        """Run a coroutine that is no job's, and wait for it for so many seconds.

        Raises:
            TimeoutError: that was not long enough.
        """
        return asyncio.run_coroutine_threadsafe(make(), self._loop or self._start()).result(timeout)

    def cancel(self, job: Job) -> None:
        """Cancel what runs for a job, if anything does; any thread may ask."""
        if (run := self._runs.get(job)) is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(run.cancel)
        elif self._elsewhere is not None:
            self._elsewhere.cancel(job)

    def frames_of(self, job: Job) -> list[FrameType] | None:
        """Return where a job's coroutine is, outermost first; None if it has none."""
        if (run := self._runs.get(job)) is not None:
            return run.frames(self._thread_id)
        return None if self._elsewhere is None else self._elsewhere.frames_of(job)

    def close(self) -> None:
        """End the thread once nothing waits for it; what handlers left running is cancelled."""
        self._is_closed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                try:
                    # A daemon: the process must be able to end before a handler does.
                    threading.Thread(
                        target=self._serve, args=(loop,), name=self._name, daemon=True
                    ).start()
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(loop)
        while not self._is_closed:
            try:
                with served_here(loop):
                    loop.run_forever()
            # A task that a handler started, and nobody awaits, may want to end the process.
            except (SystemExit, KeyboardInterrupt):
                logger.exception("a task of an async handler wanted to end the process")
            # Nothing that a task does: somebody has closed what the loop waits with, say.
            except Exception as error:
                logger.exception("an event loop broke, and its jobs fail")
                self._abandon(loop, error)
                return
        with contextlib.suppress(BaseException):
            finish(loop)

    def _abandon(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """Leave a loop that is of no use, and let the next job start another one."""
        self._loop = None
        # From now on who has it still is refused; those who came before are here to be told.
        with contextlib.suppress(Exception):
            loop.close()
        for run in list(self._runs.values()):
            run.fail(RuntimeError(f"the event loop broke: {error}"))


_serving = threading.local()


@contextlib.contextmanager
def served_here(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Run an event loop within; processes that its tasks fork do not come out of it."""
    process = os.getpid()
    _serving.loop = loop
    try:
        yield
    finally:
        _serving.loop = None
        if os.getpid() != process:
            os._exit(1)


def _leave_loop() -> None:
    """End a process that an async handler forked at its next await.

    Beyond that are the parent's other tasks, and the pipe by which the parent is woken.
    """
    if (loop := getattr(_serving, "loop", None)) is not None:
        # What would be called before the loop stops. Another implementation has it elsewhere.
        with contextlib.suppress(AttributeError):
            loop._ready.clear()  # noqa: SLF001 - there is no other way
        loop.stop()


os.register_at_fork(after_in_child=_leave_loop)


def suspended(task: asyncio.Task[Any], thread_id: int = 0) -> list[FrameType]:
    """Follow the awaits of a task, outermost first. Unlike Task.get_stack() this sees all of them.

    Args:
        task: the task.
        thread_id: whose loop it belongs to: that is asked for the place if the task runs just now.
    """
    awaiting: Any = task.get_coro()
    if getattr(awaiting, "cr_running", False):
        frames = _running(awaiting.cr_frame, thread_id)
        if frames:
            return frames
    frames = []
    while awaiting is not None:
        frame = getattr(awaiting, "cr_frame", None) or getattr(awaiting, "gi_frame", None)
        if frame is None:
            break
        frames.append(frame)
        awaiting = getattr(awaiting, "cr_await", None) or getattr(awaiting, "gi_yieldfrom", None)
    return frames


def _running(outermost: FrameType | None, thread_id: int) -> list[FrameType]:
    """Return what a thread does, from a frame on; nothing if it has left that meanwhile."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the way there is
    while frame is not None:
        frames.append(frame)
        if frame is outermost:
            return frames[::-1]
        frame = frame.f_back
    return []


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all tasks of a loop that does not run, let them tidy up within bounds, and close it.

    Signal handlers run in here, and what they raise is for the caller.
    """
    # What a signal handler has raised may have come in between the steps in which it stopped.
    asyncio._set_running_loop(None)  # noqa: SLF001 - there is no other way
    if loop.is_running():
        return
    leftovers = loop.create_task(_end_leftovers())
    until = loop.time() + FINISH_SECONDS
    try:
        while not leftovers.done() and loop.time() < until:
            # A stop() that the loop has not heard yet ends it early, as does a task that wants to
            # leave.
            with contextlib.suppress(Exception, SystemExit, asyncio.CancelledError):
                loop.run_until_complete(leftovers)
    finally:
        loop.close()


async def _end_leftovers() -> None:
    loop = asyncio.get_running_loop()
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    if leftovers:
        await asyncio.wait(leftovers, timeout=LEFTOVER_SECONDS)
    # What generators do when they are closed may take for ever as well.
    closing = loop.create_task(loop.shutdown_asyncgens())
    await asyncio.wait({closing}, timeout=LEFTOVER_SECONDS)
