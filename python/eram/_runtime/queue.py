"""One queue of a worker: a thread with one connection that fetches, reports and waits."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import psycopg

from eram._base import statements
from eram._base.connection import Session, brief, call_seconds, job_cursor, open_session
from eram._base.outage import Outage
from eram._base.sleep import Sleeper
from eram._engine.main_loop import MainLoop
from eram._jobs.finding import Handlers
from eram._jobs.job import Job
from eram._jobs.middleware import Middleware
from eram._jobs.outcome import Outcome, Released
from eram._runtime.ahead import Ahead
from eram._runtime.deadlines import Deadlines
from eram._runtime.event_loop import EventLoop
from eram._runtime.execution import Executor
from eram._runtime.listening import Line
from eram._runtime.look_back import LookBack
from eram._runtime.notifier import Notifier
from eram._runtime.pool import ExecutorPool
from eram._runtime.registration import Registration
from eram._runtime.reporter import IN_THE_WAY, Reporter
from eram._runtime.waiting import Waiting
from eram._runtime.waking import NEVER
from eram._transactions.driver import Drivers
from eram._transactions.driver_runner import CLOSE_SECONDS, open_runner

logger = logging.getLogger(__name__)

# Until the next fetch when one has waited for a lock in vain.
LOCKED_SECONDS = 0.1
_NO_WORKER = (psycopg.errors.UndefinedObject, psycopg.errors.ObjectNotInPrerequisiteState)


class QueueRunner:
    """Keeps the executors of one queue in work.

    Its thread alone knows what is in hand: executors are given jobs and give back outcomes, and
    ring only when the thread sleeps. While there is no connection they go on with what they have.
    """

    def __init__(
        self,
        queue: str,
        *,
        limit: int,
        dsn: str,
        handlers: Handlers,
        middleware: Sequence[Middleware],
        registration: Registration,
        notifier: Notifier,
        outage: Outage,
        poll_interval: float,
        on_ended: Callable[[], None],
        main_loop: MainLoop | None = None,
        drivers: Drivers | None = None,
        line: Line | None = None,
    ) -> None:
        self._queue = queue
        self._limit = limit
        self._dsn = dsn
        self._registration = registration
        self._poll_interval = poll_interval
        self._make_waiting = functools.partial(
            Waiting, queue=queue, poll_interval=poll_interval, line=line
        )
        self._outage = outage
        name = f"queue {queue}"
        self._part = outage.part(name)
        self._on_ended = on_ended
        self._worker_id = registration.worker_id
        self._in_hand: set[Job] = set()
        self._loop = EventLoop(f"eram-async-{queue}", main_loop)
        self._deadlines = Deadlines(self._in_hand, self._loop)
        self._finished: deque[Outcome] = deque()
        self._cancelled: deque[tuple[int, int]] = deque()
        self._reporter = Reporter(notifier)
        self._ahead = Ahead()
        self._look_back = LookBack()
        self._sleeper = Sleeper()
        self._line = line
        if line is not None:
            line.begin(self._sleeper.ring)
        self._stopping = threading.Event()
        self.has_ended = False
        self._pool = ExecutorPool(
            queue,
            limit=limit,
            executor=Executor(
                handlers,
                middleware=middleware,
                loop=self._loop,
                has_driver=drivers is not None,
                main_loop=main_loop,
            ),
            deadlines=self._deadlines,
            open_runner=lambda: open_runner(
                drivers, dsn, f"eram jobs {queue}", stopping=self._stopping, part=outage.part(name)
            ),
            on_finished=self._finish,
        )
        # A daemon like the executors: whoever stops the worker decides how long to wait for it.
        self._thread = threading.Thread(target=self._run, name=f"eram-queue-{queue}", daemon=True)

    def __repr__(self) -> str:
        return f"<QueueRunner {self._queue} with {len(self._in_hand)} jobs>"

    def start(self) -> None:
        """Start the threads."""
        try:
            self._pool.start()
            self._thread.start()
        except BaseException:
            self._sleeper.close()
            raise

    def stop(self) -> None:
        """Fetch no more, give back what is not started, and end once the rest is reported."""
        self._stopping.set()
        self._sleeper.ring()
        self._outage.wake()

    @property
    def unfinished(self) -> list[Job]:
        """The jobs in hand."""
        return list(self._in_hand)

    @property
    def unreported(self) -> set[Job]:
        """The jobs that have ended, which the server does not know yet."""
        return self._reporter.jobs

    def cancel(self, runs: list[tuple[int, int]]) -> None:
        """Let runs of jobs, as (id, run), know that they were cancelled."""
        self._cancelled.extend(runs)
        self._sleeper.ring()

    def look(self) -> None:
        """Wake the thread: something has changed."""
        self._sleeper.ring()

    def _finish(self, outcome: Outcome) -> None:
        self._finished.append(outcome)
        self._sleeper.ring()

    def _run(self) -> None:
        while not self._is_over():
            try:
                name = f"eram queue {self._queue}"
                session = open_session(self._dsn, name, patience=call_seconds)
                with closing(session.conn):
                    self._serve(session)
            except psycopg.Error as error:
                self._part.failed(error)
            # One of the two loops that must survive anything: the jobs in hand depend on it.
            except Exception:
                logger.exception("queue %s stumbled over an error", self._queue)
            self._part.wait(self._is_over)
            self._collect()
            self._deadlines.expire(self._reporter.add)
        self._part.leave()
        self._pool.close()
        # They may have something to close in the event loop.
        self._pool.join(CLOSE_SECONDS)
        self._loop.close()
        self._sleeper.close()
        self.has_ended = True
        self._on_ended()

    def _is_over(self) -> bool:
        return self._stopping.is_set() and not self._in_hand and not self._reporter

    def _serve(self, session: Session) -> None:
        conn = session.conn
        waiting = self._make_waiting(conn, can_listen=session.is_direct)
        # Notifications that come in with an answer would pile up in the connection otherwise.
        conn.add_notify_handler(lambda _: waiting.notified())
        cursor = job_cursor(conn)
        self._look_back.begin()
        while True:
            is_stopping = self._stopping.is_set()
            count = self._collect()
            if self._deadlines.expire(self._reporter.add) or count:
                waiting.freed()
            waiting.hear()
            self._mark_cancelled()
            if is_stopping:
                self._give_back(self._pool.buffered)
            if self._reporter.send(conn):
                waiting.put_off()
            if self._look_back.is_due:
                # Apart from these, we should hold nothing.
                ours = self._in_hand | self._reporter.jobs
                self._look_back.look(conn, self._worker_id, self._queue, ours)
            seconds = NEVER
            try:
                if is_stopping:
                    waiting.stop()
                else:
                    seconds = self._fetch_or_wait(cursor, waiting)
                self._part.back()
            except IN_THE_WAY:
                seconds = LOCKED_SECONDS
            if is_stopping and self._is_over():
                return
            has_news = self._has_work if is_stopping else self._has_news
            if seconds != 0 and self._sleep(conn, seconds, has_news):
                waiting.notified()

    def _sleep(
        self, conn: psycopg.Connection[Any], seconds: float, has_news: Callable[[], bool]
    ) -> bool:
        seconds = min(seconds, self._deadlines.seconds_left(), self._reporter.seconds_left())
        return self._sleeper.sleep(conn, None if seconds == NEVER else seconds, has_news)

    def _has_work(self) -> bool:
        return bool(self._finished or self._cancelled)

    def _has_news(self) -> bool:
        is_renewed = self._registration.worker_id != self._worker_id
        has_heard = self._line is not None and self._line.has_news
        return self._has_work() or self._stopping.is_set() or is_renewed or has_heard

    def _collect(self) -> int:
        count = 0
        while self._finished:
            outcome = self._finished.popleft()
            job = outcome.job
            self._in_hand.discard(job)
            counted = outcome if job.timeout_seconds is None else self._deadlines.end(outcome)
            if counted is not None:
                self._reporter.add(counted)
            count += 1
        if count:
            self._ahead.finished(count)
        return count

    def _fetch_or_wait(self, cursor: psycopg.Cursor[Any], waiting: Waiting) -> float:
        """Fetch if there is room and it is time to; say how long to sleep then."""
        if self._registration.worker_id != self._worker_id:
            self._drop_unstarted()
            self._worker_id = self._registration.worker_id
        ahead = self._ahead.jobs()
        surplus = len(self._in_hand) - self._limit - ahead
        buffered = self._pool.buffered
        # Many small fetches would cost more than they bring: wait until half of it is used up.
        if surplus < 0 and buffered <= ahead // 2:
            if (seconds := waiting.seconds_left()) == 0:
                self._ahead.no_surplus()
                return self._fetch(cursor, waiting, -surplus)
        else:
            seconds = waiting.busy()
        return min(seconds, self._ahead.pause(surplus, buffered, self._give_back))

    def _fetch(self, cursor: psycopg.Cursor[Any], waiting: Waiting, demand: int) -> float:
        waiting.before_fetch()
        try:
            wanted = (self._queue, demand, self._worker_id)
            rows = cursor.execute(statements.FETCH, wanted).fetchall()
        except _NO_WORKER as error:
            logger.debug("queue %s must register anew: %s", self._queue, brief(error))
            self._drop_unstarted()
            self._registration.renew(self._worker_id)
            return self._poll_interval
        if rows:
            jobs = list(map(Job, rows))
            self._in_hand.update(jobs)
            self._deadlines.watch(jobs)
            self._pool.feed(jobs)
        waiting.after_fetch(fetched=len(rows), demand=demand)
        return 0

    def _give_back(self, count: int) -> None:
        jobs = self._pool.take_back(count)
        self._in_hand.difference_update(jobs)
        for job in jobs:
            self._reporter.add(Released(job))

    def _drop_unstarted(self) -> None:
        self._in_hand.difference_update(self._pool.take_back(self._pool.buffered))

    def _mark_cancelled(self) -> None:
        if not self._cancelled:
            return
        runs = {self._cancelled.popleft() for _ in range(len(self._cancelled))}
        for job in [job for job in self._in_hand if (job.id, job.run) in runs]:
            if self._pool.take_back_one(job):
                self._in_hand.discard(job)
            else:
                job.mark_cancelled()
                self._loop.cancel(job)
