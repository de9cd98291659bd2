"""What each kind of harm does, and how it is undone.

A harm is a function of the world and of its step. It says whom it meets, and returns what undoes
it. What cannot be done, because the server is away, is left undone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from chaos import holds
from chaos.administrator import Administrator
from chaos.database import PRODUCER_ROLE, WORKER_ROLE, connect_briefly
from chaos.evidence import Record
from chaos.plan import Step
from chaos.processes import Process, Producer, Worker
from eram.embedded import EmbeddedServer

SLOW_SECONDS = 0.05
ROLES = (WORKER_ROLE, PRODUCER_ROLE)
TIMEOUTS = (
    ("statement_timeout", ("1ms", "5ms", "20ms", "100ms")),
    ("lock_timeout", ("1ms", "10ms")),
    ("idle_in_transaction_session_timeout", ("1ms", "10ms")),
)
SESSIONS = """
select pg_{act}_backend(pid)
from pg_stat_activity
where backend_type = 'client backend' and usename = any (%s) and random() < %s
"""
AGE = "update eram_workers set missing_since = missing_since - interval '1 minute'"

Undo = Callable[[], None]
ALL = None  # everybody is met


@dataclass
class World:
    """What there is to harm."""

    server: EmbeddedServer
    record: Record
    administrator: Administrator
    workers: list[Worker] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        return self.server.dsn

    def worker_of(self, step: Step) -> Worker:
        return self.workers[step.of(len(self.workers))]

    def process_of(self, step: Step) -> Process:
        everybody: list[Process] = [*self.workers, *self.producers]
        return everybody[step.of(len(everybody))]

    def begin(self, number: int, step: Step) -> Undo | None:
        """Do harm; return what undoes it, unless there is nothing to undo."""
        act, victims = _HARMS[step.kind], _victims(self, step)
        self.record.write("harm begun", harm=number, kind=step.kind, victims=victims)
        try:
            undo = act(self, step)
        except psycopg.OperationalError:
            undo = None

        def end() -> None:
            if undo is not None:
                undo()
            self.record.write("harm ended", harm=number)

        if undo is None:
            end()
            return None
        return end


def _victims(world: World, step: Step) -> list[int] | None:
    if step.kind in {"kill", "stop", "freeze"}:
        return [world.worker_of(step).pid]
    if step.kind in {"cut", "silence", "deaf", "slow"}:
        return [world.process_of(step).pid]
    if step.kind == "kill_producer":
        return []
    return ALL


def _kill(world: World, step: Step) -> Undo:
    worker = world.worker_of(step)
    worker.kill()
    return worker.start


def _kill_producer(world: World, step: Step) -> Undo:
    producer = world.producers[step.of(len(world.producers))]
    producer.kill()
    return producer.start


def _stop(world: World, step: Step) -> Undo:
    worker = world.worker_of(step)
    worker.suspend()
    return worker.resume


def _freeze(world: World, step: Step) -> Undo:
    """Stop it, and let the server notice: others take over what it goes on with later."""
    worker = world.worker_of(step)
    worker.suspend()
    if worker.network is not None:
        worker.network.cut()

    def undo() -> None:
        if worker.network is not None:
            worker.network.mend()
        worker.resume()

    return undo


def _terminate(world: World, step: Step) -> None:
    _to_sessions(world, "terminate", 0.2 + 0.8 * step.pick)


def _cancel(world: World, step: Step) -> None:
    _to_sessions(world, "cancel", 0.2 + 0.8 * step.pick)


def _to_sessions(world: World, act: str, share: float) -> None:
    with connect_briefly(world.dsn) as conn:
        conn.execute(SESSIONS.format(act=act), (list(ROLES), share))


def _crash(world: World, step: Step) -> Undo:
    world.server.stop("immediate")
    return lambda: _start(world)


def _restart(world: World, step: Step) -> Undo:
    world.server.stop("fast")
    return lambda: _start(world)


def _start(world: World) -> None:
    world.server.start()


def _cut(world: World, step: Step) -> Undo | None:
    network = world.process_of(step).network
    if network is None:
        return None
    network.cut()
    return network.mend


def _silence(world: World, step: Step) -> Undo | None:
    network = world.process_of(step).network
    if network is None:
        return None
    network.silence()
    return network.mend


def _deaf(world: World, step: Step) -> Undo | None:
    network = world.process_of(step).network
    if network is None:
        return None
    network.deafen()
    return network.mend


def _slow(world: World, step: Step) -> Undo | None:
    network = world.process_of(step).network
    if network is None:
        return None
    network.slow(SLOW_SECONDS)
    return network.mend


def _fill(world: World, step: Step) -> Undo:
    filler = holds.Filler(world.dsn)
    with contextlib.suppress(psycopg.OperationalError):
        _to_sessions(world, "terminate", 0.4)
    return filler.stop


def _timeouts(world: World, step: Step) -> Undo:
    """Have sessions that begin from now on live with short timeouts, and all begin anew."""
    name, values = TIMEOUTS[step.of(len(TIMEOUTS))]
    value = values[step.of(len(values), salt=1)]
    with connect_briefly(world.dsn) as conn:
        for role in ROLES:
            conn.execute(f"alter role {role} set {name} = '{value}'")
    _to_sessions(world, "terminate", 1)

    def undo() -> None:
        # The server may be down; heal() does it again.
        with contextlib.suppress(psycopg.OperationalError):
            reset_timeouts(world.dsn)
            _to_sessions(world, "terminate", 1)

    return undo


def reset_timeouts(dsn: str) -> None:
    """Let new sessions of the roles have no timeouts any more."""
    with connect_briefly(dsn) as conn:
        for role in ROLES:
            conn.execute(f"alter role {role} reset all")


def _lock(world: World, step: Step) -> Undo:
    return holds.hold_lock(world.dsn, step.of(len(holds.LOCKS)))


def _snapshot(world: World, step: Step) -> Undo:
    return holds.hold_snapshot(world.dsn, step.of(len(holds.SNAPSHOTS)))


def _age(world: World, step: Step) -> None:
    """Let grace periods be over, whoever is on the way back; no test waits for half a minute."""
    with connect_briefly(world.dsn) as conn:
        conn.execute(AGE)


def _administrate(world: World, step: Step) -> None:
    world.administrator.act(step.pick)


_HARMS: dict[str, Callable[[World, Step], Any]] = {
    "kill": _kill,
    "kill_producer": _kill_producer,
    "stop": _stop,
    "freeze": _freeze,
    "terminate": _terminate,
    "cancel": _cancel,
    "crash": _crash,
    "restart": _restart,
    "cut": _cut,
    "silence": _silence,
    "deaf": _deaf,
    "slow": _slow,
    "fill": _fill,
    "timeouts": _timeouts,
    "lock": _lock,
    "snapshot": _snapshot,
    "age": _age,
    "administrate": _administrate,
}
