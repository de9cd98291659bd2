"""The schedule of harm: made from a seed, and the same for the same seed, as data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DEFAULT_SECONDS = 60.0
WORKERS = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of harm: how likely it is, how long it lasts, and what it does."""

    weight: float
    lasts: tuple[float, float]
    text: str


KINDS = {
    "kill": Kind(3, (0.1, 3), "kill -9 of a worker; a new one is started"),
    "kill_producer": Kind(1, (0.1, 1), "kill -9 of a producer; a new one is started"),
    "stop": Kind(2, (0.2, 4), "SIGSTOP of a worker, SIGCONT later"),
    "freeze": Kind(2, (1, 6), "SIGSTOP of a worker, whose connections end meanwhile"),
    "terminate": Kind(3, (0, 0), "pg_terminate_backend() of some sessions"),
    "cancel": Kind(2, (0, 0), "pg_cancel_backend() of some sessions"),
    "crash": Kind(2, (0, 1.5), "stop -m immediate of the server, and a start"),
    "restart": Kind(0.7, (0, 1.5), "stop -m fast of the server, and a start"),
    "cut": Kind(2, (0.1, 5), "the network of a process is cut"),
    "silence": Kind(1, (0.5, 5), "the network of a process swallows everything"),
    "deaf": Kind(2, (0.1, 2), "the network of a process swallows what the server answers"),
    "slow": Kind(1.5, (1, 4), "the network of a process is slow"),
    "fill": Kind(1, (0.5, 3), "no connection is left, and some sessions end"),
    "timeouts": Kind(1, (0.5, 2), "statement_timeout or lock_timeout of the roles is short"),
    "lock": Kind(2, (0.1, 2), "an administrator has locked something"),
    "snapshot": Kind(1.5, (2, 10), "a transaction stays open, reading or writing"),
    "age": Kind(1.5, (0, 0), "those that are missing have been missing for a minute"),
    "administrate": Kind(0, (0, 0), "an administrator acts"),
}
APART_SECONDS = {"crash": 3.0, "restart": 3.0, "fill": 1.0, "timeouts": 1.0}
DEADLY = frozenset({"kill", "freeze", "cut"})
AGE_AFTER_SECONDS = 1.5  # a tick notes within a second who is missing
HARM_EVERY_SECONDS = 0.9
ACT_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """One harm: when it begins, how long it lasts, and what picks its target."""

    at: float
    kind: str
    lasts: float
    pick: float

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.2f} s" if self.lasts else ""
        return f"{self.at:7.2f} s  {self.kind}{lasts} (pick {self.pick:.4f})"

    def of(self, count: int, salt: int = 0) -> int:
        """Pick a number below count; with another salt, another one."""
        return random.Random(f"{self.pick} {salt}").randrange(count)


def make_plan(seed: int, seconds: float, kinds: Iterable[str] = tuple(KINDS)) -> list[Step]:
    """Return the harm of a run, in order of time; the end of some is left for its last seconds."""
    chosen = list(kinds)
    harms = [kind for kind in chosen if KINDS[kind].weight]
    # A text, because a number and its negative are one seed.
    draw = random.Random(f"harm {seed}")
    steps = list(_harms(draw, seconds, harms)) if harms else []
    if "administrate" in chosen:
        draw = random.Random(f"administrator {seed}")
        steps += [
            Step(at, "administrate", 0, draw.random())
            for at in _moments(draw, seconds, ACT_EVERY_SECONDS)
        ]
    return sorted(steps, key=lambda step: step.at)


def _harms(draw: random.Random, seconds: float, kinds: list[str]) -> Iterator[Step]:
    free_at: dict[str, float] = {}
    for at in _moments(draw, seconds, HARM_EVERY_SECONDS):
        kind = draw.choices(kinds, [KINDS[kind].weight for kind in kinds])[0]
        lasts, pick = round(draw.uniform(*KINDS[kind].lasts), 2), draw.random()
        # One crash at a time; the server comes back in between.
        group = "server" if kind in {"crash", "restart"} else kind
        if at < free_at.get(group, 0.0):
            continue
        free_at[group] = at + lasts + APART_SECONDS.get(kind, 0.0)
        yield Step(at, kind, lasts, pick)
        if kind in DEADLY and lasts > AGE_AFTER_SECONDS and "age" in kinds:
            # So that others take its jobs over before it comes back.
            yield Step(round(at + AGE_AFTER_SECONDS, 2), "age", 0, pick)


def _moments(draw: random.Random, seconds: float, every: float) -> Iterator[float]:
    at = 1.0  # jobs are under way by then
    while (at := round(at + draw.expovariate(1 / every), 2)) < seconds:
        yield at
