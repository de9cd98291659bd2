"""Chaos in short: all kinds of harm to a server of its own, its workers and producers, judged."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from chaos.plan import KINDS, make_plan
from chaos.run import Report, run
from chaos.show import command, text

SEEDS = (1, 43)  # which do harm of every kind
# Where several servers are tested, one seed for each will do.
CHOSEN = [int(seed) for seed in os.environ.get("ERAM_TEST_CHAOS_SEEDS", "").split()] or SEEDS
SECONDS = 12.0
NIGHTLY_SECONDS = 180.0
LIMIT_SECONDS = 600  # of a test; it ends when it has settled, which takes as long as it takes


def do_harm(bin_dir: Path, seed: int, seconds: float) -> Report:
    # Short, because sockets lie there.
    with tempfile.TemporaryDirectory(prefix="eram-chaos-") as name:
        report = run(seed, make_plan(seed, seconds), seconds, Path(name), bin_dir=bin_dir)
    assert report.faults == [], f"\n{text(report)}\n\nAgain: {command(seed, seconds)}"
    return report


@pytest.mark.timeout(LIMIT_SECONDS)
@pytest.mark.parametrize("seed", CHOSEN)
def test_nothing_is_lost_and_nothing_done_twice(server_bin_dir, seed):
    report = do_harm(server_bin_dir, seed, SECONDS)
    # It is nothing that could not have failed: a load was there, and it met the harm.
    assert report.counts["jobs completed"] > 50
    assert report.counts["runs"] > report.counts["jobs completed"]
    assert {harm.kind for harm in report.history.harms} == set(report.steps)


@pytest.mark.nightly
@pytest.mark.timeout(NIGHTLY_SECONDS + LIMIT_SECONDS)
def test_nothing_is_lost_in_minutes_of_chaos(server_bin_dir):
    do_harm(server_bin_dir, random.randrange(1_000_000), NIGHTLY_SECONDS)


def test_the_short_runs_do_harm_of_every_kind():
    done = {step.kind for seed in SEEDS for step in make_plan(seed, SECONDS)}
    assert done == set(KINDS)


def test_a_seed_says_what_is_done():
    assert make_plan(7, 60) == make_plan(7, 60)
    assert make_plan(7, 60) != make_plan(8, 60)


def test_only_the_harm_that_is_asked_for_is_done():
    kinds = {step.kind for step in make_plan(7, 60, ["kill", "administrate"])}
    assert kinds == {"kill", "administrate"}
    assert make_plan(7, 60, []) == []
