"""An administrator who does at random what administrators may do, and puts it on record."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import psycopg

from chaos.database import connect_briefly, removing
from chaos.evidence import Record
from chaos.processes import QUEUES

WAITING = ("scheduled", "available", "retryable")
ENDED = ("completed", "cancelled", "discarded")
LATEST = 100  # jobs among which one is picked
FREE_QUEUES = ("default", "money")  # whose limits and pauses are the administrator's to change
# Acts that are not about certain jobs.
FOR_ALL = frozenset({"pause", "limit", "rescue", "notify", "check"})

Conn = psycopg.Connection[Any]


class Administrator:
    """A thread that acts each time that it is told to, one act after the other.

    Args:
        dsn: where.
        record: where acts are put on record.
    """

    def __init__(self, dsn: str, record: Record) -> None:
        self._dsn = dsn
        self._record = record
        self._numbers = itertools.count(1)
        self._orders: SimpleQueue[float | None] = SimpleQueue()
        self._conn: Conn | None = None
        self.faults: list[str] = []
        self._thread = Thread(target=self._follow_orders, daemon=True)
        self._thread.start()

    def act(self, pick: float) -> None:
        """Have it act; the number says what it does."""
        self._orders.put(pick)

    def stop(self) -> None:
        """Wait until everything is done that it was told to do."""
        self._orders.put(None)
        self._thread.join()

    def undo(self, conn: Conn) -> None:
        """Take back what would keep jobs from running."""
        for queue in QUEUES:
            conn.execute("select eram_resume_queue(%s)", (queue,))
        for queue in FREE_QUEUES:
            conn.execute("select eram_set_queue(%s, global_limit => 0)", (queue,))

    def _follow_orders(self) -> None:
        while (pick := self._orders.get()) is not None:
            draw = random.Random(pick)
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = connect_briefly(self._dsn)
                self._pick_act(draw)(self._conn, draw)
            except psycopg.OperationalError:
                # The server is away or says no, and what became of the act is on record.
                continue
            except Exception as error:
                # Nothing that an administrator does may fail in another way.
                text = str(error).partition("\n")[0]
                self.faults.append(f"the administrator met {type(error).__name__}: {text}")
        if self._conn is not None:
            self._conn.close()

    def _pick_act(self, draw: random.Random) -> Callable[[Conn, random.Random], None]:
        acts: dict[Callable[[Conn, random.Random], None], int] = {
            self._cancel: 3,
            self._cancel_some: 1,
            self._retry: 4,
            self._retry_some: 2,
            self._delete: 2,
            self._prune: 1,
            self._update: 2,
            self._move: 1,
            self._pause: 1,
            self._limit: 1,
            self._rescue: 3,
            self._notify: 1,
            self._check: 2,
        }
        return draw.choices(list(acts), list(acts.values()))[0]

    def _cancel(self, conn: Conn, draw: random.Random) -> None:
        for job in self._jobs(conn, draw, 1, *WAITING, "executing"):
            reason = draw.choice([None, "chaos"])
            self._on_jobs("cancel", [job], conn, "select eram_cancel_job(%s, %s)", (job, reason))

    def _cancel_some(self, conn: Conn, draw: random.Random) -> None:
        jobs = self._jobs(conn, draw, 5, *WAITING, "executing")
        query = "select eram_cancel_jobs(jsonb_build_object('ids', %s::bigint[]))"
        self._on_jobs("cancel", jobs, conn, query, (jobs,))

    def _retry(self, conn: Conn, draw: random.Random) -> None:
        for job in self._jobs(conn, draw, 1, *ENDED, "retryable"):
            # Its key may be another's by now.
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                self._on_jobs("retry", [job], conn, "select eram_retry_job(%s)", (job,))

    def _retry_some(self, conn: Conn, draw: random.Random) -> None:
        jobs = self._jobs(conn, draw, 5, *ENDED, "retryable")
        query = "select eram_retry_jobs(jsonb_build_object('ids', %s::bigint[]))"
        self._on_jobs("retry", jobs, conn, query, (jobs,))

    def _delete(self, conn: Conn, draw: random.Random) -> None:
        jobs = self._jobs(conn, draw, draw.choice([1, 5]), *WAITING, *ENDED)
        query = "select eram_delete_jobs(jsonb_build_object('ids', %s::bigint[]))"
        with contextlib.suppress(psycopg.errors.SerializationFailure):
            self._on_jobs("delete", jobs, conn, query, (jobs,), is_removing=True)

    def _prune(self, conn: Conn, draw: random.Random) -> None:
        """Prune what ended, of which all is kept first."""
        query = "select id from eram_jobs where state = any (%s)"
        ended = [job for (job,) in conn.execute(query, (list(ENDED),)).fetchall()]
        prune = "select eram_prune_jobs('0.5 seconds', %s)"
        with contextlib.suppress(psycopg.errors.SerializationFailure):
            most = draw.choice([10, 100])
            self._on_jobs("prune", ended, conn, prune, (most,), is_removing=True)

    def _update(self, conn: Conn, draw: random.Random) -> None:
        for job in self._jobs(conn, draw, 1, *WAITING):
            query = "select eram_update_job(%s, priority => %s)"
            self._on_jobs("update", [job], conn, query, (job, draw.randrange(10)))

    def _move(self, conn: Conn, draw: random.Random) -> None:
        jobs = self._jobs(conn, draw, 5, *WAITING)
        query = "select eram_move_jobs(jsonb_build_object('ids', %s::bigint[]), %s)"
        self._on_jobs("move", jobs, conn, query, (jobs, draw.choice(FREE_QUEUES)))

    def _pause(self, conn: Conn, draw: random.Random) -> None:
        act = draw.choice(["eram_pause_queue", "eram_resume_queue", "eram_resume_queue"])
        self._on_jobs("pause", [], conn, f"select {act}(%s)", (draw.choice(list(QUEUES)),))

    def _limit(self, conn: Conn, draw: random.Random) -> None:
        query = "select eram_set_queue(%s, global_limit => %s)"
        arguments = (draw.choice(FREE_QUEUES), draw.choice([0, 0, 1, 3]))
        self._on_jobs("limit", [], conn, query, arguments)

    def _rescue(self, conn: Conn, draw: random.Random) -> None:
        """Rescue, also those that nothing proves to be alive, and those alone."""
        age = draw.choice([None, "1 second"])
        self._on_jobs("rescue", [], conn, "select eram_rescue_jobs(%s::interval)", (age,))

    def _notify(self, conn: Conn, draw: random.Random) -> None:
        query = "select eram_set_queue(%s, is_notifying => %s)"
        arguments = (draw.choice(FREE_QUEUES), draw.random() < 0.5)
        self._on_jobs("notify", [], conn, query, arguments)

    def _check(self, conn: Conn, draw: random.Random) -> None:
        """The invariants hold in the midst of it, too."""
        found = conn.execute("select violation, job_id, detail from eram_check()").fetchall()
        self._on_jobs("check", [], conn, "select", ())
        for violation, job, detail in found:
            # For a while that is normal, and longer on a busy machine.
            if violation != "worker is gone":
                self.faults.append(f"eram_check() found {violation} ({job}): {detail}")

    def _jobs(self, conn: Conn, draw: random.Random, count: int, *states: str) -> list[int]:
        """Pick some of the latest jobs."""
        query = "select id, state from eram_latest_jobs order by id desc limit %s"
        latest = [job for job, state in conn.execute(query, (LATEST,)) if state in states]
        return sorted(draw.sample(latest, min(count, len(latest))))

    def _on_jobs(
        self,
        kind: str,
        jobs: list[int],
        conn: Conn,
        query: str,
        arguments: tuple[Any, ...],
        *,
        is_removing: bool = False,
    ) -> None:
        """Do it, with the act on record before it begins and after it has ended."""
        if not jobs and kind not in FOR_ALL:
            return
        number = next(self._numbers)
        self._record.write("act begun", act=number, kind=kind, jobs=jobs)
        try:
            with removing(conn, kind, jobs) if is_removing else contextlib.nullcontext():
                conn.execute(query, arguments)
        except psycopg.Error as error:
            came_to = "unknown" if conn.broken else "refused"
            self._record.write("act ended", act=number, came_to=came_to, error=str(error))
            if isinstance(error, psycopg.errors.UndefinedObject):  # pruned meanwhile
                return
            raise
        self._record.write("act ended", act=number, came_to="done")
