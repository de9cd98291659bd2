"""What each hot statement writes, touches, locks and says; limits.py says what it may."""

from __future__ import annotations

import pytest

from . import limits, moves
from .judging import above, least, too_dear


@pytest.mark.parametrize("group", moves.GROUPS)
def test_the_cost_of_hot_statements(afresh, record, group):
    costs = least(moves.GROUPS[group], afresh)
    for name, cost in costs.items():
        record(name, cost.by_kind(), limits.of_statement(name))
    assert too_dear(costs) == {}


def test_the_wal_of_a_whole_life(scratch, record):
    wal_bytes = moves.life(scratch)
    record("a whole life", {"wal_bytes": wal_bytes}, {"wal_bytes": limits.LIFE_WAL_BYTES})
    assert wal_bytes <= limits.LIFE_WAL_BYTES


def test_what_hangs_on_hot_tables(scratch, record):
    for table, allowed in limits.TABLES.items():
        found = moves.hanging_on(scratch, table)
        record(table, found, allowed)
        assert above(found, allowed) == {}


def test_the_locks_of_hot_functions(scratch):
    allowed = dict.fromkeys(found := moves.locking(scratch), 0) | limits.LOCKS
    assert above(found, allowed) == {}
