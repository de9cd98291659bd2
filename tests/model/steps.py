"""What the rules share: one call, made in the database and in the model, and compared."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import psycopg
from hypothesis.stateful import RuleBasedStateMachine, invariant
from psycopg.types.json import Jsonb

from .comparison import Comparison, in_short
from .database import Database, as_json, clock, say
from .defaults import RefusedError
from .jobs import RUNNING, Job
from .model import WORDS, Model
from .moments import SECOND, Moment, exactly
from .values import TX_HANDLER, TX_QUEUE, for_transaction

JSON = {"args", "meta", "backoff", "unique_by", "filter", "overrides", "jobs", "job"}
UNHELPFUL = ("XX", "42883", "42P", "40", "55P", "57", "08")  # classes of errors that are no help


@dataclasses.dataclass
class Side:
    """Where a call is made: a session and what is true there."""

    conn: psycopg.Connection
    model: Model
    is_open: bool


class Steps(RuleBasedStateMachine):
    """A database and its model, on their way."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.database.empty()
        self.model = Model()
        self.in_transaction: Model | None = None
        self.tx_worker = 0

    # -- where things happen

    @property
    def is_open(self) -> bool:
        """Say whether the transaction is open."""
        return self.in_transaction is not None

    @property
    def models(self) -> list[Model]:
        """Return the model, and that of the transaction if it is open."""
        return [self.model] if self.in_transaction is None else [self.model, self.in_transaction]

    def side(self, where: int) -> Side:
        """Return the transaction if it is open and wanted, else one of the other sessions."""
        if self.in_transaction is not None and where == 3:
            self.in_transaction.handlers = self.model.handlers  # read committed
            return Side(self.database.transaction, self.in_transaction, is_open=True)
        return self.outside(where)

    def outside(self, where: int) -> Side:
        """Return one of the sessions that commit at once."""
        return Side(self.database.sessions[where % 3], self.model, is_open=False)

    def begin_transaction(self) -> None:
        """Open the transaction."""
        say("  begin;  -- in a session of its own")
        self.database.begin()
        self.in_transaction = copy.deepcopy(self.model)
        for worker in self.in_transaction.workers.values():
            worker.cancelled.clear()  # what is told meanwhile is not told again

    def finish_transaction(self, *, commit: bool) -> None:
        """Commit, and with it all that was done to its queue; or roll back."""
        say("  commit;" if commit else "  rollback;")
        self.database.finish(commit=commit)
        assert self.in_transaction is not None
        if commit:
            self.model.adopt(self.in_transaction, TX_QUEUE)
        self.in_transaction = None

    def teardown(self) -> None:
        """End what is open."""
        if self.is_open:
            self.database.finish(commit=False)

    # -- time

    def pass_time(self, seconds: float) -> None:
        """Move everything into the past, in both."""
        lost = [number for number, worker in self.model.workers.items() if worker.session is None]
        self.database.pass_time(seconds, lost)
        self.model.pass_time(seconds)

    def settle(self) -> None:
        """Let pass what is about to change by itself, so that it is clear what comes first."""
        near = Moment(clock(), clock() + 2 * SECOND)
        while any(
            event.latest > near.earliest and event.earliest < near.latest
            for model in self.models
            for event in model.next_events()
        ):
            if self.is_open:
                time.sleep(0.1)
            else:
                self.pass_time(3)
            near = Moment(clock(), clock() + 2 * SECOND)

    # -- one call

    def ask(self, side: Side, function: str, args: dict[str, Any]) -> Any:
        """Call a function in the database; return its rows, or the error."""
        self.settle()
        passed = {key: as_argument(function, key, value) for key, value in args.items()}
        self.called = clock()
        try:
            return self.database.call(side.conn, function, **passed)
        except psycopg.Error as exc:
            say(f"  -- {exc.sqlstate}: {exc}")
            return exc

    def judge(
        self,
        side: Side,
        answer: Any,
        expected: Callable[[Model, Moment], Any],
        read: Callable[[Any], Any] = lambda rows: rows,
    ) -> None:
        """Compare the database's answer with the model's."""
        at = Moment(self.called, clock())
        before = copy.deepcopy(vars(side.model))
        refused, wanted = None, None
        try:
            wanted = expected(side.model, at)
        except RefusedError as exc:
            refused = exc
            vars(side.model).update(before)

        if isinstance(answer, psycopg.Error):
            assert refused, f"refused, but the model answers {wanted}: {answer}"
            assert answer.sqlstate == refused.sqlstate, f"{refused}; but the error is {answer}"
            assert answer.diag.message_hint, f"no hint: {answer}"
        else:
            assert not refused, f"{refused}; but the answer is {answer}"
            found = read(answer)
            say(f"  -- {found}")
            assert found == wanted, f"the answer is {found}, the model's {wanted}"

    def do(self, side: Side, function: str, read: str = "scalar", **args: Any) -> None:
        """Call a function that has the same arguments in the model."""
        readers: dict[str, Callable[[Any], Any]] = {
            "scalar": lambda rows: rows[0][0],
            "sorted": lambda rows: sorted(row[0] for row in rows),
            "outcome": lambda rows: (*rows[0][:2], in_short(rows[0][2]), rows[0][3]),
        }
        self.judge(
            side,
            self.ask(side, function, args),
            lambda model, at: getattr(model, function)(at, **args),
            readers[read],
        )

    def set(self, function: str, **args: Any) -> None:
        """Call a function that changes settings, which have no time."""
        side = self.outside(0)
        self.judge(
            side,
            self.ask(side, function, args),
            lambda model, at: getattr(model, function)(**args),
            lambda rows: rows[0][0] if rows[0][0] != "" else None,
        )

    def refuse(self, side: Side, function: str, args: dict[str, Any]) -> None:
        """Make a mistake."""
        answer = self.ask(side, function, args)
        assert isinstance(answer, psycopg.Error), f"not refused, but {answer}"
        assert not (answer.sqlstate or "XX").startswith(UNHELPFUL), f"{answer.sqlstate}: {answer}"
        assert answer.diag.message_hint, f"no hint: {answer}"

    # -- calls of their own kind

    def enqueue_one(self, side: Side, document: dict[str, Any], *, as_document: bool) -> None:
        """Enqueue a job, by a document or by arguments."""
        document = self.adapted(side, document)
        args = {{"unique": "unique_by"}.get(key, key): document[key] for key in document}
        if as_document or "defaults" in document:
            args = {"job": document}
        rows = self.ask(side, "eram_enqueue_job", args)
        ids = self.new_ids(side, rows)
        self.judge(
            side,
            rows,
            lambda model, at: model.eram_enqueue_jobs(at, [document], ids)[0][0],
            lambda rows: rows[0][0],
        )

    def enqueue_all(self, side: Side, documents: list[dict[str, Any]]) -> None:
        """Enqueue a batch."""
        documents = [self.adapted(side, document) for document in documents]
        rows = self.ask(side, "eram_enqueue_jobs", {"jobs": documents})
        ids = self.new_ids(side, rows)
        self.judge(side, rows, lambda model, at: model.eram_enqueue_jobs(at, documents, ids))

    def new_ids(self, side: Side, rows: Any) -> Iterator[int]:
        """Yield the ids in the answer that nobody has seen; the model has to want just these."""
        if isinstance(rows, psycopg.Error):
            return itertools.count(10**9)  # so that the model gets as far as its own error
        known = side.model.jobs.keys() | side.model.gone
        return iter(dict.fromkeys(row[0] for row in rows if row[0] not in known))

    def start(self, session: int | None, *queues: str) -> None:
        """Start a worker; none is the session of the transactions."""
        conn = self.database.transaction if session is None else self.database.sessions[session]
        side = Side(conn, self.model, is_open=False)
        name = f"worker {len(self.model.workers) + 1}"
        args = {"name": name, "queues": list(queues), "client_pid": conn.info.backend_pid}
        rows = self.ask(side, "eram_start_worker", args)
        self.judge(
            side,
            rows,
            lambda model, at: model.eram_start_worker(
                at, -1 if session is None else session, name, list(queues), rows[0][0]
            ),
            lambda rows: rows[0][0],
        )
        if session is None:
            self.tx_worker = rows[0][0]

    def beat(self, session: int, worker: int) -> None:
        """Let a worker say that it lives."""
        side = self.outside(session)
        rows = self.ask(side, "eram_heartbeat", {"worker": worker})
        self.judge(side, rows, lambda model, at: [model.eram_heartbeat(at, session, worker)])

    def lose(self, session: int) -> None:
        """Let a worker's process die, or its network break."""
        say(f"  -- session {session} ends, and another begins")
        self.database.reopen(session)
        self.model.lose_session(session)
        lost = [number for number, worker in self.model.workers.items() if worker.session is None]
        self.database.age_heartbeats(lost)

    def why(self, side: Side, job_id: int) -> None:
        """Ask why a job does not run, which has an answer for everything."""
        self.judge(
            side,
            self.ask(side, "eram_why", {"id": job_id}),
            lambda model, at: model.eram_why(at, job_id),
            lambda rows: {words for words in WORDS if words in rows[0][0]},
        )

    def fetch_from(self, side: Side, queue: str, demand: int, worker: int) -> None:
        """Claim, and compare what is handed out."""
        self.settle()
        self.database.sweep(side.conn, queue)
        args = {"queue": queue, "demand": demand, "worker": worker}

        names = ("args", "meta", "tags", "queue", "priority", "attempt", "max_attempts")

        def expected(model: Model, at: Moment) -> list[Any]:
            return [
                (
                    job.id,
                    job.run,
                    model.handler_name(job.handler),
                    *(getattr(job, n) for n in names),
                )
                for job in model.eram_fetch(at, queue, demand, worker)
            ]

        rows = self.ask(side, "eram_fetch", args)
        self.judge(side, rows, expected, lambda rows: [row[:10] for row in rows])

    # -- what there is to choose from

    def have_jobs(self, side: Side) -> None:
        """Enqueue jobs if there is none that could be touched."""
        if self.pick(side, 0) is None:
            self.enqueue_all(side, [{"handler": "app:a", "args": {"n": n}} for n in range(3)])

    def have_running(self, side: Side) -> None:
        """Fetch if nothing runs that could be touched."""
        if self.pick(side, 0, RUNNING) is None:
            self.have_jobs(side)
            if not side.is_open and not self.living():
                self.start(0, "default")
            worker = self.tx_worker if side.is_open else self.pick_worker(1)
            for queue in (TX_QUEUE,) if side.is_open else ("default", "mail"):
                self.fetch_from(side, queue, 5, worker)

    def pick(self, side: Side, number: int, *places: str) -> Job | None:
        """Choose a job that may be touched there: the transaction's queue is its own."""
        jobs = [
            job
            for _, job in sorted(side.model.jobs.items())
            if (not places or job.place in places)
            and (not self.is_open or (job.queue == TX_QUEUE) == side.is_open)
        ]
        return jobs[number % len(jobs)] if jobs else None

    def pick_runs(self, side: Side, asked: list[tuple[int, int]]) -> dict[str, list[Any]]:
        """Choose runs, with what is to be added to their numbers."""
        jobs = [(self.pick(side, number, RUNNING), more) for number, more in asked]
        runs = [(job.id, job.run + more) for job, more in jobs if job is not None]
        return {"ids": [job_id for job_id, _ in runs], "runs": [run for _, run in runs]}

    def pick_worker(self, number: int) -> int:
        """Choose a worker, but not that of the transactions; rarely one that has ended."""
        workers = sorted(self.model.workers.keys() - {self.tx_worker})
        if number % 10:
            workers = [one for one in workers if not self.model.workers[one].ended] or workers
        return workers[number % len(workers)] if workers else 4711

    def living(self) -> list[int]:
        """Return the workers that beat, but for that of the transactions."""
        return [
            number
            for number, worker in self.model.workers.items()
            if worker.session is not None and not worker.ended and number != self.tx_worker
        ]

    def adapted(self, side: Side, document: dict[str, Any]) -> dict[str, Any]:
        """Keep the jobs inside and outside of an open transaction apart."""
        if side.is_open:
            return for_transaction(document)
        if document.get("queue") == TX_QUEUE:
            if self.is_open:
                return document | {"queue": "mail"}
            return document | {"unique": False}
        return document

    def adapted_filter(self, side: Side, chosen: dict[str, Any]) -> dict[str, Any]:
        """Put in times and ids, and keep to what may be touched."""
        wanted = {
            key: exactly(clock() + round(value * SECOND)) if key in ("before", "after") else value
            for key, value in chosen.items()
        }
        if "ids" in wanted:
            jobs = [self.pick(side, number) for number in wanted["ids"]]
            wanted["ids"] = [job.id for job in jobs if job] or [math.floor(1e9)]
        if side.is_open:
            wanted |= {"queue": TX_QUEUE, "handler": TX_HANDLER}
        elif self.is_open:
            wanted |= {"queue": wanted.get("queue", "default")}
            if wanted["queue"] not in ("default", "mail"):
                wanted["queue"] = ["default", "mail"]
        if len(wanted) > 1:
            wanted.pop("all", None)
        return wanted

    # -- after each step

    @invariant()
    def agree(self) -> None:
        """The database says what the model says."""
        Comparison(self.database.look(), self.model).check()
        if self.in_transaction is not None:
            seen = self.database.look(self.database.transaction)
            Comparison(seen, self.in_transaction).check_queue(TX_QUEUE)


def as_argument(function: str, name: str, value: Any) -> Any:
    """Write a value of the model as the function takes it."""
    if value is None or isinstance(value, Jsonb):
        return value
    if name in JSON or (name == "max_age" and function == "eram_set_queue"):
        return as_json(value)
    if name == "results":
        return [entry if entry is None else as_json(entry) for entry in value]
    if name in ("delay", "rescue_after", "max_age") and isinstance(value, int):
        return f"{value} seconds"
    return value
