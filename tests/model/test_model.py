"""Random sequences of calls from several sessions do what the model says.

A failure prints the calls that lead to it, made as few as possible. ERAM_TEST_SEED chooses other
sequences than those of every day.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .database import Database
from .machine import Machine

SEED = int(os.environ.get("ERAM_TEST_SEED", "20240229"))
EXAMPLES = int(os.environ.get("ERAM_TEST_EXAMPLES", "150"))

# Without ERAM_TEST_SHRINK=off a failure takes up to five minutes more, to be made short.
IS_SHRINKING = os.environ.get("ERAM_TEST_SHRINK") != "off"
PHASES = [Phase.generate, Phase.shrink] if IS_SHRINKING else [Phase.generate]


def drive(dsn: str, examples: int, seed: int, phases: Sequence[Phase] = PHASES) -> None:
    """Run sequences of steps."""
    with contextlib.closing(Database(dsn)) as database:

        @hypothesis.seed(seed)
        class On(Machine):
            pass

        On.database = database
        run_state_machine_as_test(
            On,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                database=None,
                deadline=None,
                phases=phases,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )


@pytest.fixture
def seed() -> int:
    """The seed, printed."""
    print(f"ERAM_TEST_SEED={SEED}")
    return SEED


@pytest.mark.timeout(900)
def test_random_sequences_do_what_the_model_says(dsn, seed):
    drive(dsn, EXAMPLES, seed)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_ten_times_as_many_sequences(dsn, seed):
    drive(dsn, 10 * EXAMPLES, seed + 1)
