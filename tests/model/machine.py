"""Random sequences of calls: what can happen, each as a rule.

A rule chooses, calls the function in the database and in the model, and compares the answers;
after each rule everything stored is compared. `where` says in which session, 3 being the open
transaction if there is one: that works in a queue of its own, which nobody else touches meanwhile.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from . import values
from .database import clock
from .defaults import given
from .jobs import ENDED, RUNNING, WAITING
from .mistakes import MISTAKES
from .moments import SECOND
from .steps import Steps
from .values import TX_QUEUE, numbers

where = st.integers(0, 3)
nobody = precondition(lambda self: not self.is_open)
runs_asked = st.lists(st.tuples(numbers, st.sampled_from([0, 0, 0, -1, 1])), max_size=5)


class Machine(Steps):
    """What can happen."""

    @initialize(documents=st.lists(values.documents, min_size=3, max_size=8))
    def begin(self, documents: list[dict[str, Any]]) -> None:
        """Have workers and a few jobs."""
        for session in (0, 1, None):
            self.start(session, "default", "mail", TX_QUEUE)
        self.enqueue_all(self.outside(0), documents)

    # -- producers

    @rule(
        where=where,
        document=values.documents,
        like=st.none() | numbers,
        as_document=st.booleans(),
    )
    def enqueue(
        self, where: int, document: dict[str, Any], like: int | None, as_document: bool
    ) -> None:
        """Enqueue a job, perhaps one that may have the unique key of another."""
        side = self.side(where)
        job = None if like is None else self.pick(side, like)
        if job is not None:
            names = ("handler", "queue", "args", "meta")
            document = document | {name: getattr(job, name) for name in names}
        self.enqueue_one(side, document, as_document=as_document)

    @rule(where=where, documents=st.lists(values.documents, max_size=6))
    def enqueue_batch(self, where: int, documents: list[dict[str, Any]]) -> None:
        self.enqueue_all(self.side(where), documents)

    # -- workers and what they hold

    @rule(where=where, number=numbers, queue=values.queues, demand=st.sampled_from([0, 1, 3, 99]))
    def fetch(self, where: int, number: int, queue: str, demand: int) -> None:
        side = self.side(where)
        queue = TX_QUEUE if side.is_open else queue
        worker = self.tx_worker if side.is_open else self.pick_worker(number)
        self.fetch_from(side, queue, demand, worker)

    @nobody
    @rule(where=where, number=numbers)
    def fetch_all(self, where: int, number: int) -> None:
        """Fetch from every queue, that of the transactions too."""
        for queue in ("default", "mail", TX_QUEUE):
            self.fetch_from(self.side(where), queue, 99, self.pick_worker(number))

    @rule(where=where, asked=runs_asked, result=st.none() | st.tuples(values.results))
    def complete(self, where: int, asked: Any, result: tuple[Any] | None) -> None:
        """Complete some runs, stale ones and duplicates among them."""
        side = self.side(where)
        self.have_running(side)
        args = self.pick_runs(side, asked)
        if result is not None:
            args["results"] = list(result) * len(args["ids"])
        self.do(side, "eram_complete_jobs", read="sorted", **args)

    @rule(
        where=where,
        number=numbers,
        how=st.sampled_from(["fail", "fail", "snooze", "discard"]),
        stale=st.sampled_from([0, 0, 0, 0, -1, 1]),
        delay=values.delays,
        reason=st.sampled_from([None, "of no use"]),
    )
    def finish(
        self, where: int, number: int, how: str, stale: int, delay: Any, reason: str | None
    ) -> None:
        """Let a run end otherwise."""
        side = self.side(where)
        self.have_running(side)
        job = self.pick(side, number, RUNNING)
        if job:
            more = {
                "fail": {"error": f"no {number}", **given({"delay": delay})},
                "snooze": {"delay": delay or 0},
                "discard": given({"reason": reason}),
            }
            self.do(side, f"eram_{how}_job", id=job.id, run=job.run + stale, **more[how])

    @rule(where=where, asked=runs_asked, others_of=st.none() | st.none() | numbers)
    def release(self, where: int, asked: Any, others_of: int | None) -> None:
        """Give some runs back, or all the others of a worker."""
        side = self.side(where)
        self.have_running(side)
        args: dict[str, Any] = self.pick_runs(side, asked)
        if others_of is None:
            self.do(side, "eram_release_jobs", read="sorted", **args)
        else:
            args = {"worker": self.pick_worker(others_of), "queue": "default", **args}
            self.do(self.outside(where), "eram_release_other_jobs", read="sorted", **args)

    @rule(
        session=st.integers(0, 2),
        number=numbers,
        what=st.sampled_from(["heartbeat", "heartbeat", "start", "stop"]),
        queues=st.lists(values.queues, min_size=1, unique=True),
    )
    def work(self, session: int, number: int, what: str, queues: list[str]) -> None:
        """Let a worker come, beat or say goodbye."""
        side = self.outside(session)
        if what == "heartbeat" or self.is_open:
            self.beat(session, self.pick_worker(number))
        elif what == "start":
            self.start(session, *queues)
        else:
            self.do(side, "eram_stop_worker", worker=self.pick_worker(number))

    # -- administration of jobs

    @rule(
        where=where,
        number=numbers,
        reason=st.sampled_from([None, "by order"]),
        run=st.sampled_from([None, None, None, 0, 1]),
    )
    def cancel(self, where: int, number: int, reason: str | None, run: int | None) -> None:
        side = self.side(where)
        self.have_jobs(side)
        job = self.pick(side, number, WAITING, RUNNING) or self.pick(side, number)
        if job:
            run = None if run is None else job.run - run
            options = given({"reason": reason, "run": run})
            self.do(side, "eram_cancel_job", id=job.id, **options)

    @rule(where=where, number=numbers, only_ended=st.booleans())
    def retry(self, where: int, number: int, only_ended: bool) -> None:
        side = self.side(where)
        self.have_jobs(side)
        job = self.pick(side, number, *(ENDED if only_ended else ())) or self.pick(side, number)
        if job:
            self.do(side, "eram_retry_job", id=job.id)

    @rule(where=where, number=numbers)
    def delete(self, where: int, number: int) -> None:
        side = self.side(where)
        self.have_jobs(side)
        job = self.pick(side, number)
        if job:
            self.do(side, "eram_delete_job", id=job.id)

    @rule(
        where=where,
        number=numbers,
        changes=values.options(
            priority=values.priorities,
            max_attempts=values.attempts,
            delay=values.delays,
            backoff=values.backoffs,
            timeout=values.timeouts,
            tags=values.tags,
            meta=values.metas,
            args=values.args,
        ),
    )
    def update(self, where: int, number: int, changes: dict[str, Any]) -> None:
        side = self.side(where)
        self.have_jobs(side)
        job = self.pick(side, number, WAITING) or self.pick(side, number)
        if job:
            self.do(side, "eram_update_job", id=job.id, **changes)

    @rule(
        where=where,
        function=st.sampled_from(["cancel", "retry", "retry", "delete", "move", "move"]),
        filter=values.filters,
        queue=values.queues,
    )
    def bulk(self, where: int, function: str, filter: Any, queue: str) -> None:  # noqa: A002
        side = self.side(where)
        self.have_jobs(side)
        is_move = function == "move" and not side.is_open
        chosen = self.adapted_filter(side, filter)
        if is_move:
            # The transaction's jobs may have keys, so that they stay in its queue.
            chosen = {"handler": list(values.HANDLERS), **chosen}
            chosen.pop("all", None)
            self.do(side, "eram_move_jobs", filter=chosen, queue=queue)
        else:
            function = "cancel" if function == "move" else function
            self.do(side, f"eram_{function}_jobs", filter=chosen)

    @rule(where=where, number=numbers)
    def look(self, where: int, number: int) -> None:
        """Ask for a job, one that is gone or one that never was."""
        side = self.side(where)
        job = self.pick(side, number)
        ids = [*sorted(side.model.gone)[-3:], *([job.id] if job else [])]
        for job_id in ids:
            self.do(side, "eram_outcome", read="outcome", id=job_id)
        if not self.is_open:
            for known_or_not in (*ids, 0, -1, 10**18):
                self.why(side, known_or_not)

    # -- settings

    @nobody
    @rule(
        queue=values.queues | st.just(TX_QUEUE),
        what=st.sampled_from(["set", "set", "set", "pause", "resume", "resume"]),
        settings=values.options(
            is_notifying=st.booleans(),
            priority=values.priorities,
            max_attempts=values.attempts,
            backoff=values.backoffs,
            max_age=values.max_ages,
            rescue_after=st.sampled_from([None, 0, "2 hours"]),
            global_limit=st.sampled_from([None, 0, 1, 2, 5]),
            is_announcing=st.booleans(),
        ),
    )
    def administer_queue(self, queue: str, what: str, settings: dict[str, Any]) -> None:
        self.set(f"eram_{what}_queue", queue=queue, **(settings if what == "set" else {}))

    @rule(
        handler=st.sampled_from(values.HANDLERS),
        what=st.sampled_from(["register", "register", "set", "delete"]),
        declared=values.defaults,
        aliases=st.lists(st.sampled_from(values.HANDLERS), max_size=2, unique=True),
    )
    def administer_handler(
        self, handler: str, what: str, declared: dict[str, Any], aliases: list[str]
    ) -> None:
        if what == "register":
            values = {{"unique": "unique_by"}.get(key, key): declared[key] for key in declared}
            names = [name for name in aliases if name != handler]
            self.set("eram_register_handler", handler=handler, aliases=names, **values)
        elif what == "set":
            self.set("eram_set_handler", handler=handler, overrides=declared)
        else:
            self.set("eram_delete_handler", handler=handler)

    # -- maintenance, time and transactions

    @nobody
    @rule(max_age=st.sampled_from([None, 0, "2 hours"]), max_count=st.sampled_from([1, 2, 1000]))
    def prune(self, max_age: Any, max_count: int) -> None:
        side = self.outside(0)
        args = given({"max_age": max_age, "max_count": max_count})
        rows = self.ask(side, "eram_prune_jobs", args)
        left = {int(number) for number in self.database.look()["jobs"] or {}}
        self.judge(
            side,
            rows,
            lambda model, at: model.eram_prune_jobs(at, max_age, max_count, left),
            lambda rows: rows[0][0],
        )

    @nobody
    @rule(
        where=where,
        lost=st.sampled_from([None, 0, 0, 1, 2]),
        after=st.sampled_from([None, None, "1 hour"]),
        times=st.sampled_from([0, 1, 2, 2]),
    )
    def die(self, where: int, lost: int | None, after: str | None, times: int) -> None:
        """Let a session end, and look for the dead: who is missing a second time has died."""
        self.have_running(self.outside(where))
        if lost is not None:
            self.lose(lost)
        for _ in range(times):
            if any(worker.missing and not worker.ended for worker in self.model.workers.values()):
                self.pass_time(40)
            side = self.outside(where)
            self.database.prepare_rescue(side.conn, self.living())
            self.do(side, "eram_rescue_jobs", **given({"rescue_after": after}))

    @nobody
    @rule(hours=st.sampled_from([0.5, 1, 2, 30, 200]), number=st.none() | numbers)
    def time_passes(self, hours: float, number: int | None) -> None:
        """Let time pass, often just until something happens: a job is due, a window is over."""
        events = sorted(event.latest for event in self.model.next_events())
        coming = [event for event in events if event > clock()]
        if number is not None and coming:
            self.pass_time((coming[number % len(coming)] - clock()) // SECOND + 1)
        else:
            self.pass_time(hours * values.HOUR)

    @rule(commit=st.sampled_from([True, True, False]))
    def transaction(self, commit: bool) -> None:
        """Open one, or end it."""
        if self.is_open:
            self.finish_transaction(commit=commit)
        else:
            self.begin_transaction()

    # -- mistakes

    @rule(
        where=where,
        mistakes=st.lists(st.sampled_from(MISTAKES), min_size=1, max_size=10),
        n=numbers,
    )
    def mistake(self, where: int, mistakes: list[Any], n: int) -> None:
        """A caller's mistake raises, says what to do, and changes nothing."""
        side = self.side(where)
        job = self.pick(side, n)
        known = {"job": job and job.id, "worker": self.tx_worker}
        for function, args in mistakes:
            with contextlib.suppress(LookupError):
                self.refuse(side, function, {key: resolve(arg, known) for key, arg in args.items()})


def resolve(arg: Any, known: dict[str, Any]) -> Any:
    """Put in a job or a worker that there is."""
    if isinstance(arg, list):
        return [resolve(entry, known) for entry in arg]
    if not callable(arg):
        return arg
    found = arg(known)
    if found is None:
        raise LookupError
    return found
