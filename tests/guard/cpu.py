"""The CPU of a session that does a job's moves, eram's and the yardstick's in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import yardstick

from . import moves
from .judging import above

FEWEST_ROUNDS = 10
MOST_ROUNDS = 40
HUNDRED = moves.HUNDRED
SINGLES = 5  # in a round: they are short


def can_tell() -> bool:
    """Say whether this system tells exactly what CPU a process has used."""
    return Path("/proc/self/schedstat").exists()


def ratios(
    conn: psycopg.Connection, allowed: Mapping[str, float], *, rounds: int = MOST_ROUNDS
) -> dict[str, float]:
    """Return how many times the yardstick's CPU each move takes.

    Other load only adds to what a move takes, so the least of many rounds counts. On a busy machine
    it takes more of them until each has had a round to itself.
    """
    meter = _Meter(conn)
    moving = _Moving(conn, meter)
    found: dict[str, float] = {}
    for number in range(rounds):
        moving.go_round()
        found = meter.ratios()
        if number >= FEWEST_ROUNDS and not above(found, allowed):
            break
    return found


class _Meter:
    """Keeps the least that a session has used of the CPU for each move."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._path = Path(f"/proc/{conn.info.backend_pid}/schedstat")
        self._least: dict[str, list[float]] = defaultdict(lambda: [float("inf")] * 2)

    def ratios(self) -> dict[str, float]:
        return {name: round(ours / bare, 2) for name, (ours, bare) in self._least.items()}

    def compare(
        self, name: str, ours: Callable[[], list[Any]], bare: Callable[[], list[Any]]
    ) -> tuple[list[Any], list[Any]]:
        """Do a move in both ways, and return what each has returned."""
        returned = []
        for way, move in enumerate((ours, bare)):
            before = self._used()
            returned.append(move())
            self._least[name][way] = min(self._least[name][way], self._used() - before)
        return returned[0], returned[1]

    def _used(self) -> float:
        return int(self._path.read_text(encoding="ascii").split()[0])


class _Moving:
    """Moves jobs through eram's tables and through the yardstick's, beside each other."""

    def __init__(self, conn: psycopg.Connection, meter: _Meter) -> None:
        self._conn = conn
        self._meter = meter
        self._worker = moves.start_worker(conn)
        self._cursor = yardstick.Cursor()
        conn.execute(yardstick.TABLES)

    def go_round(self) -> None:
        """Enqueue, fetch and complete a hundred jobs at once and some one by one."""
        documents = (moves.documents(HUNDRED),)
        self._meter.compare(
            "enqueue a hundred",
            lambda: self._execute(moves.ENQUEUE_MANY, documents),
            lambda: self._execute(yardstick.ENQUEUE_DOCUMENTS, documents),
        )
        single = ("noop:nothing", moves.arguments(0))
        for _ in range(SINGLES):
            self._meter.compare(
                "enqueue one",
                lambda: self._execute(moves.ENQUEUE, single),
                lambda: self._execute(yardstick.ENQUEUE_ONE, single),
            )
        self._move("a hundred", HUNDRED)
        for _ in range(SINGLES):
            self._move("one", 1)

    def _move(self, name: str, demand: int) -> None:
        ours, bare = self._meter.compare(
            f"fetch {name}",
            lambda: self._execute(moves.FETCH, (demand, self._worker)),
            lambda: yardstick.fetch(self._conn, demand, self._cursor),
        )
        held = ([row[0] for row in ours], [row[1] for row in ours])
        done, _ = self._meter.compare(
            f"complete {name}",
            lambda: self._execute(moves.COMPLETE, held),
            lambda: self._execute(yardstick.COMPLETE, ([row[0] for row in bare],)),
        )
        assert len(done) == len(bare) == demand

    def _execute(self, query: str, params: tuple[Any, ...]) -> list[Any]:
        cursor = self._conn.execute(query, params, binary=True)
        return cursor.fetchall() if cursor.description else []
