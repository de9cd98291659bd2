"""Every public function is called with every kind of value; see fuzzer.py for longer runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .fuzzer import DOCUMENTED, fuzzing

ERRORS = Path(__file__).parents[2] / "docs" / "errors.md"
SEED = int(os.environ.get("ERAM_TEST_SEED", "20240229"))
SECONDS = 10
CALLS = 5000
LEAST_CALLS = 1200  # enough to call everything, however busy the machine is


def test_only_documented_errors_come_back(bare_dsn):
    with fuzzing(bare_dsn, SEED) as fuzzer:
        fuzzer.run(seconds=SECONDS, calls=CALLS, least=LEAST_CALLS)
        # It gets past the first checks, and at everything.
        assert set(fuzzer.called) == {function[0] for function in fuzzer.functions}
        assert fuzzer.accepted.total() > fuzzer.called.total() / 10
        assert len(fuzzer.answers) > 8


def test_what_it_takes_for_documented_is():
    cells = re.findall(r"^\| ([0-9A-Z, ]+) \| `", ERRORS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {state for cell in cells for state in cell.split(", ")}
    assert len(documented) > 25
    assert set(DOCUMENTED) <= documented


HARMS = {
    "XX000": "raise exception using errcode = 'XX000', hint = 'None.'",
    "no hint": "raise exception using errcode = 'undefined_object'",
    "repeated": (
        "raise exception using errcode = 'undefined_object', message = repeat('x', 10000),"
        " hint = 'None.'"
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_the_fuzzer_sees_what_is_not_documented(bare_dsn, harm, capsys):
    with (
        pytest.raises(AssertionError, match=f"(?s){harm}.*eram_version"),
        fuzzing(bare_dsn, SEED) as fuzzer,
    ):
        fuzzer.place.owner.execute(
            "create or replace function eram_version() returns text language plpgsql volatile"
            f" as $$ begin {HARMS[harm]}; end $$"
        )
        fuzzer.functions = [each for each in fuzzer.functions if each[0] == "eram_version"]
        fuzzer.run(seconds=60, calls=20)
    assert f"-- seed {SEED}" in capsys.readouterr().out


def test_the_fuzzer_sees_a_broken_invariant(bare_dsn):
    with pytest.raises(AssertionError), fuzzing(bare_dsn, SEED) as fuzzer:
        fuzzer.functions = [each for each in fuzzer.functions if each[0] == "eram_version"]
        fuzzer.run(seconds=60, calls=5)
        fuzzer.place.owner.execute("select eram_enqueue_job('a:b'); delete from eram_queued_jobs")
        fuzzer.run(seconds=60, calls=5)
