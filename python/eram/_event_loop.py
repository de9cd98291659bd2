"""The event loop of a queue's async handlers, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import FrameType
from typing import Any, TypeVar

from eram._job import Job

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# What handlers have left behind is given so long to end when the loop does.
LEFTOVER_SECONDS = 1.0


class EventLoop:
    """Runs coroutines for threads that wait for them.

    Who waits is one of the queue's executors, so there are never more at a time than the queue's
    limit. The thread is started for the first of them: without async handlers there is none.

    Args:
        name: what the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[Job, asyncio.Task[Any]] = {}
        self._is_closed = False

    def run(self, job: Job, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run a coroutine for a job, in a context of its own, and wait until it has ended."""
        loop = self._loop or self._start()
        # A lock that is released at the end costs a fraction of a concurrent.futures.Future.
        ended = threading.Lock()
        ended.acquire()

        def begin() -> None:
            task = self._tasks[job] = loop.create_task(make(), context=Context())
            task.add_done_callback(lambda _: ended.release())
            # The end of its time, or a cancel, came first.
            if job.cancelled:
                task.cancel()

        loop.call_soon_threadsafe(begin)
        ended.acquire()
        result: Result = self._tasks.pop(job).result()
        return result

    def cancel(self, job: Job) -> None:
        """Cancel what runs for a job, if anything does; any thread may ask."""
        if (task := self._tasks.get(job)) is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(task.cancel)

    def frames_of(self, job: Job) -> list[FrameType] | None:
        """Return where the job's task is suspended, outermost first; None if it has none."""
        task = self._tasks.get(job)
        return None if task is None else _suspended(task)

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
                # A daemon: the process must be able to end before a handler does.
                thread = threading.Thread(
                    target=self._serve, args=(loop,), name=self._name, daemon=True
                )
                thread.start()
                self._loop = loop
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._is_closed:
            try:
                loop.run_forever()
            # A task that a handler started, and nobody awaits, may want to end the process.
            except BaseException:
                logger.exception("a task of an async handler wanted to end the process")
        with contextlib.suppress(BaseException):
            loop.run_until_complete(asyncio.wait_for(_end_leftovers(), LEFTOVER_SECONDS))
        loop.close()


def _suspended(task: asyncio.Task[Any]) -> list[FrameType]:
    """Follow the awaits of a task. Unlike Task.get_stack() this sees all of them."""
    frames: list[FrameType] = []
    awaiting: Any = task.get_coro()
    while awaiting is not None:
        frame = getattr(awaiting, "cr_frame", None) or getattr(awaiting, "gi_frame", None)
        if frame is None:
            break
        frames.append(frame)
        awaiting = getattr(awaiting, "cr_await", None) or getattr(awaiting, "gi_yieldfrom", None)
    return frames


async def _end_leftovers() -> None:
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    await asyncio.gather(*leftovers, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
