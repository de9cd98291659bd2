"""How many statements a worker sends for many jobs, for single ones, for none; and a producer."""

from __future__ import annotations

import pytest

from . import limits, worker
from .judging import above


@pytest.mark.parametrize("scene", worker.SCENES)
def test_the_statements_of_a_worker(quiet_server, scratch, record, scene):
    with worker.watch(quiet_server, scratch) as watched:
        figures = worker.least(watched, scene, limits.WORKER)
    for name, figure in figures.items():
        record(name, {"figure": figure}, {"figure": limits.WORKER[name]})
    assert above(figures, limits.WORKER) == {}


def test_the_statements_of_a_producer(quiet_server, scratch_dsn):
    figures = worker.producing(scratch_dsn, quiet_server.log)
    assert above(figures, limits.PRODUCER) == {}
    assert min(figures.values()) > 0
