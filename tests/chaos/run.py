"""How a run goes: start everything, do harm by the plan, heal, let it settle, and judge."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from chaos import database, evidence, history
from chaos.administrator import Administrator
from chaos.checker import Fault, check
from chaos.evidence import Record
from chaos.harms import World, reset_timeouts
from chaos.network import Network
from chaos.plan import WORKERS, Step
from chaos.processes import Process, Producer, Worker
from eram.embedded import PORT, EmbeddedServer

PRODUCERS = 2
PAUSE_SECONDS = 0.1  # between two calls of a producer's thread
START_SECONDS = 60.0
SETTLE_SECONDS = 180.0
SERVER_SETTINGS = {"max_connections": "50"}
# What no server may log: internal errors, deadlocks, crashes that nobody ordered.
WORST = re.compile(r"PANIC:|internal error|deadlock detected|terminated by signal|XX000")
# Of a worker that is known to be dead nobody need wait for the grace period.
BURY = """
update eram_workers
set missing_since = missing_since - interval '1 minute'
where ended_at is null and missing_since is not null
"""

Say = Callable[[str], None]


@dataclass
class Report:
    """What was done, and what the judge says of it."""

    seed: int
    faults: list[Fault]
    history: history.History
    steps: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)


class ChaosError(Exception):
    """The run could not go on, whatever eram does; the message says why."""


def run(
    seed: int,
    steps: list[Step],
    seconds: float,
    directory: Path,
    *,
    bin_dir: Path | None = None,
    say: Say = lambda _: None,
    prepare: Callable[[psycopg.Connection[Any]], None] = lambda _: None,
) -> Report:
    """Do harm by a plan, and judge.

    Args:
        seed: what the producers draw from.
        steps: the plan.
        seconds: how long jobs are enqueued.
        directory: where everything lies: the server, the evidence, the logs.
        bin_dir: the server's programs.
        say: is told how far it has got.
        prepare: is called with a connection before anything begins.
    """
    record_directory = directory / "evidence"
    record_directory.mkdir(parents=True)
    record = Record(record_directory)
    server = EmbeddedServer(directory / "server", bin_dir=bin_dir, settings=SERVER_SETTINGS)
    with server:
        with database.connect(server.dsn) as conn:
            first = database.set_up(conn)
            prepare(conn)
        administrator = Administrator(server.dsn, record)
        world = World(server, record, administrator)
        with _processes(world, record_directory, seed):
            _do_harm(world, steps, seconds, say)
            schedules, stuck = settle(world, first, say)
        with database.connect(server.dsn) as conn:
            final = database.read_final(conn, schedules, stuck)
    record.close()
    complaints = [*world.complaints, *_server_complaints(server.log)]
    judged = history.read(evidence.read_all(record_directory), final, complaints)
    return Report(
        seed, check(judged), judged, Counter(step.kind for step in steps), _counts(judged)
    )


@contextlib.contextmanager
def _processes(world: World, directory: Path, seed: int) -> Iterator[None]:
    """Start workers and producers, each with a network of its own; end all of them."""
    socket_directory = Path(conninfo_to_dict(world.dsn)["host"])
    with contextlib.ExitStack() as stack:

        def network() -> Network:
            made = Network(socket_directory, PORT)
            stack.callback(made.close)
            return made

        for number in range(WORKERS):
            way = network()
            dsn = way.dsn(database.WORKER_ROLE)
            name = f"worker-{number}"
            world.workers.append(Worker(name, directory, world.record, dsn=dsn, network=way))
        for number in range(PRODUCERS):
            way = network()
            world.producers.append(
                Producer(
                    f"producer-{number}",
                    directory,
                    world.record,
                    dsn=way.dsn(database.PRODUCER_ROLE),
                    seed=seed,
                    pause=PAUSE_SECONDS,
                    network=way,
                )
            )
        for process in everybody(world):
            stack.callback(process.kill)
            process.start()
        wait_for_workers(world.dsn, len(world.workers))
        yield


def everybody(world: World) -> list[Process]:
    return [*world.workers, *world.producers]


def wait_for_workers(dsn: str, count: int) -> None:
    """Wait until so many workers are registered."""
    deadline = time.monotonic() + START_SECONDS
    query = "select count(*) from eram_workers where ended_at is null"
    with database.connect(dsn) as conn:
        while conn.execute(query).fetchall()[0][0] < count:
            if time.monotonic() > deadline:
                raise ChaosError("the workers did not start in time")
            time.sleep(0.05)


def _do_harm(world: World, steps: list[Step], seconds: float, say: Say) -> None:
    """Do each step when it is due, and undo it when it is over."""
    begun_at = time.monotonic()
    order = itertools.count()
    due: list[tuple[float, int, Callable[[], None]]] = []

    def begin(number: int, step: Step) -> None:
        if step.kind != "administrate":
            say(str(step))
        undo = world.begin(number, step)
        if undo is not None:
            at = time.monotonic() - begun_at + step.lasts
            heapq.heappush(due, (at, next(order), undo))

    for number, step in enumerate(steps):
        heapq.heappush(
            due, (step.at, next(order), lambda number=number, step=step: begin(number, step))
        )
    while due:
        at, _, act = heapq.heappop(due)
        _wait_until(world, begun_at + at)
        act()
    _wait_until(world, begun_at + seconds)


def _wait_until(world: World, moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        for process in everybody(world):
            process.look()
        time.sleep(min(left, 0.2))


def settle(
    world: World, first: dict[str, datetime], say: Say = lambda _: None
) -> tuple[dict[str, history.Occurrences], dict[int, str]]:
    """Undo what is left of the harm, let all jobs end, and end the processes.

    Returns which occurrences the schedules had, and why jobs do not end that are stuck.
    """
    say("harm is over: all is mended, and no more jobs come")
    world.administrator.stop()
    world.complaints += world.administrator.faults
    for process in everybody(world):
        process.start()
        process.look()
    for producer in world.producers:
        producer.terminate()
    for producer in world.producers:
        producer.wait()
    world.server.start()
    reset_timeouts(world.dsn)
    with database.connect(world.dsn) as conn:
        world.administrator.undo(conn)
        schedules = database.end_schedules(conn, first)
        say("waiting until all jobs have ended")
        stuck = _wait_for_ends(world, conn)
    say("stopping the workers")
    for worker in world.workers:
        worker.terminate()
    for worker in world.workers:
        worker.wait()
    for process in everybody(world):
        process.read_log()
        world.complaints += process.complaints
    return schedules, stuck


def _wait_for_ends(world: World, conn: psycopg.Connection[Any]) -> dict[int, str]:
    """Wait until no job is left, or until it is clear that one is stuck; return those."""
    deadline = time.monotonic() + SETTLE_SECONDS
    buried_at = 0.0
    while conn.execute(database.LEFT).fetchall()[0][0]:
        now = time.monotonic()
        if now > deadline:
            return dict(conn.execute(database.STUCK).fetchall())
        if now - buried_at > 5 and _all_are_back(world, conn):
            conn.execute(BURY)
            buried_at = now
        for worker in world.workers:
            worker.look()
        time.sleep(0.1)
    return {}


def _all_are_back(world: World, conn: psycopg.Connection[Any]) -> bool:
    query = "select count(*) from eram_workers where ended_at is null and missing_since is null"
    return bool(conn.execute(query).fetchall()[0][0] >= len(world.workers))


def _server_complaints(log: Path) -> Iterator[str]:
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if WORST.search(line):
                yield f"the server has logged: {line.strip()}"


def _counts(judged: history.History) -> dict[str, int]:
    calls = Counter(call.came_to for call in judged.calls)
    states = Counter(row.state for row in judged.final.jobs)
    errors = Counter(kind for row in judged.final.jobs for _, kind, _ in row.errors)
    acts = Counter(f"{act.kind} {act.came_to}" for act in judged.acts)
    return {
        **{f"calls {came_to}": count for came_to, count in sorted(calls.items())},
        "duplicates": sum(answer[1] for call in judged.calls for answer in call.answers),
        **{f"jobs {state}": count for state, count in sorted(states.items())},
        "jobs removed": sum(row.removed_by is not None for row in judged.final.jobs),
        "runs": len(judged.runs),
        "runs killed": sum(run.how is None for run in judged.runs),
        **{f"runs with error: {kind}": count for kind, count in errors.most_common(8)},
        **{f"acts: {act}": count for act, count in sorted(acts.items())},
    }
