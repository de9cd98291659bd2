"""Running handlers in the thread that is in `Engine.run()`, for the queues' threads.

What is handed over waits its turn. Plain functions run one after the other, as the main thread's
own code would; async ones run side by side while no plain one does, and make a step between two.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from types import FrameType
from typing import Any, TypeAlias

from eram._jobs.job import Job
from eram._jobs.outcome import Outcome, Released
from eram._runtime.event_loop import finish, served_here, suspended

Work: TypeAlias = Callable[[], Outcome]
AsyncWork: TypeAlias = Callable[[], Coroutine[Any, Any, Outcome]]

SIGNAL_BYTES = 4_096


class _Call:
    """What one of the queues' threads waits for."""

    __slots__ = ("_ended", "error", "job", "make", "outcome", "task", "work")

    def __init__(self, job: Job, work: Work | None, make: AsyncWork | None) -> None:
        self.job = job
        self.work = work
        self.make = make
        self.task: asyncio.Task[Outcome] | None = None
        self.outcome: Outcome = Released(job)
        self.error: BaseException | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def wait(self) -> Outcome:
        self._ended.acquire()
        if self.error is not None:
            raise self.error
        return self.outcome

    def end(self) -> None:
        self._ended.release()


class MainLoop:
    """Takes calls from any thread, for as long as its engine runs."""

    def __init__(self) -> None:
        # Signal handlers may come in between at any place of the thread that is in run().
        self._lock = threading.RLock()
        self._waiting: deque[_Call] = deque()
        self._begun: dict[Job, _Call] = {}
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether a thread is in `run`."""
        return self._thread_id is not None

    @property
    def is_here(self) -> bool:
        """Whether that thread is the caller's."""
        return self._thread_id == threading.get_ident()

    def call(self, job: Job, work: Work) -> Outcome:
        """Run a job there, and wait for its end; it is released if it has not begun until `close`.

        It is likewise when its time is over, or it was cancelled, before it has begun.
        """
        return self._hand_over(_Call(job, work, None))

    def call_async(self, job: Job, make: AsyncWork) -> Outcome:
        """Run a coroutine for a job there; otherwise like `call`."""
        return self._hand_over(_Call(job, None, make))

    def cancel(self, job: Job) -> None:
        """Cancel what waits or awaits for a job, if anything does; any thread may ask."""
        with self._lock:
            for call in [each for each in self._waiting if each.job is job]:
                self._waiting.remove(call)
                call.end()
            call_begun = self._begun.get(job)
            if call_begun is not None and call_begun.task is not None and self._loop is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(call_begun.task.cancel)

    def frames_of(self, job: Job) -> list[FrameType] | None:
        """Return where a job is, outermost first; None if it is nothing of ours."""
        with self._lock:
            call = self._begun.get(job)
            if call is None:
                return [] if any(each.job is job for each in self._waiting) else None
        if call.task is not None:
            return suspended(call.task, self._thread_id or 0)
        return _frames_below(sys._current_frames().get(self._thread_id or 0))  # noqa: SLF001 - the way there is

    def ring(self) -> None:
        """Have `run` look whether it is over; a signal handler may call it."""
        if (loop := self._loop) is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def close(self) -> None:
        """Begin nothing any more; `run` ends when what it has begun has ended."""
        with self._lock:
            self._is_closed = True
            while self._waiting:
                self._waiting.popleft().end()
        self.ring()

    def run(self, is_over: Callable[[], bool], grace_period: float) -> None:
        """Run what comes in until `close`.

        Args:
            is_over: asked again and again, between any two plain functions; when it says so, this
                closes the loop itself. What it raises, this raises.
            grace_period: how many seconds async handlers have to end after that.

        Raises:
            RuntimeError: another thread, or this one, is at it.
        """
        loop = asyncio.new_event_loop()
        with self._lock:
            if self._thread_id is not None:
                loop.close()
                raise RuntimeError("run() is under way already")
            self._thread_id = threading.get_ident()
            self._loop = loop
        try:
            with _woken_by_signals(loop):
                while not (is_over() or self._is_closed):
                    self._begin_next(loop)
                    _serve(loop)
                self.close()
                timer = loop.call_later(grace_period, loop.stop)
                while self._begun and timer.when() > loop.time():
                    _serve(loop)
                    is_over()
        finally:
            self.close()
            self._loop = None
            try:
                finish(loop)
            finally:
                # Nobody else would tell those who wait for it.
                for call in list(self._begun.values()):
                    self._end(call, _Abandoned())
                self._thread_id = None

    def _hand_over(self, call: _Call) -> Outcome:
        with self._lock:
            # Whoever marks it looks here afterwards.
            if self._is_closed or call.job.cancelled:
                return call.outcome
            self._waiting.append(call)
        self.ring()
        return call.wait()

    def _begin_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin what has waited longest: a task, or a plain function, outside of the event loop.

        It is one at a time, so that tasks, signals and a stop get their turn before the next one.
        """
        with self._lock:
            if not self._waiting:
                return
            call = self._waiting.popleft()
            self._begun[call.job] = call
        if call.make is not None:
            call.task = loop.create_task(call.make(), context=Context())
            call.task.add_done_callback(functools.partial(self._end_task, call))
            if call.job.cancelled:
                call.task.cancel()
        elif call.work is not None:
            self._work(call, call.work)
        # The loop goes round once then, instead of until somebody rings.
        if self._waiting:
            self.ring()

    def _work(self, call: _Call, work: Work) -> None:
        error: BaseException | None = None
        try:
            call.outcome = work()
        except BaseException as caught:
            error = caught
        self._end(call, error)

    def _end_task(self, call: _Call, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            self._end(call, _Abandoned())
        elif (error := task.exception()) is not None:
            self._end(call, error)
        else:
            call.outcome = task.result()
            self._end(call, None)
        self.ring()

    def _end(self, call: _Call, error: BaseException | None) -> None:
        call.error = error
        with self._lock:
            self._begun.pop(call.job, None)
        call.end()


class _Abandoned(Exception):  # noqa: N818 - what became of a job, in its record of errors
    """The engine was stopped before the handler had ended, and its main thread went on."""

    def __str__(self) -> str:
        return self.__doc__ or ""


@contextlib.contextmanager
def _woken_by_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have signal handlers called at once within, whichever thread the signal is delivered to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        loop.add_reader(ours, ours.recv, SIGNAL_BYTES)
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            loop.remove_reader(ours)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run tasks until somebody rings.

    Signal handlers run in here, and what they raise is for the caller of `Engine.run()`.
    """
    with served_here(loop):
        loop.run_forever()


def _frames_below(frame: FrameType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while frame is not None and frame.f_code is not MainLoop._work.__code__:  # noqa: SLF001 - ours
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def runs_event_loop() -> bool:
    """Say whether the calling thread is in an event loop, which nothing else may hold up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
