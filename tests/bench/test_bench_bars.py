"""The bars: what they require can be measured, and they are judged by nothing but the figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import bars
import environments
import figures
import idling
import page
from measures import MEASURES

PEERS = {file.stem for file in environments.find()}


def made_up(measure, *, scale=1.0, **sides):
    """Make a result of one measurement: for each side the figures of each round."""
    labels = {label.replace("__", ", ").replace("_", " "): runs for label, runs in sides.items()}
    about = {"settings": "", "history": ""}
    return {
        "scale": scale,
        "away": {},
        "sides": {
            label: {**about, "version": "1"} if label in PEERS else about for label in labels
        },
        "measures": {
            measure: {
                "title": measure,
                "jobs": dict.fromkeys(labels, 10),
                "sides": labels,
                "without": {},
            }
        },
    }


def rates(*numbers):
    return [{"jobs_per_second": number} for number in numbers]


def verdicts(result):
    return {(bar.what, bar.other): bar.is_met(value) for bar, value in bars.judged(result)}


@pytest.mark.parametrize("bar", bars.BARS, ids=lambda bar: f"{bar.measure}-{bar.key}-{bar.other}")
def test_what_a_bar_requires_is_measured(bar):
    measure = MEASURES[bar.measure]
    labels = {side.label for side in measure.sides}
    assert bar.own in labels
    assert bar.other in {"", *labels} | (PEERS if measure.has_peers else set())
    assert bar.key in figures.FIGURES
    assert (bar.least is None) != (bar.most is None)
    if bar.other:
        assert figures.FIGURES[bar.key].is_better_higher == (bar.least is not None)


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    # The ratio of the medians would be 1.0.
    result = made_up("drain", eram=rates(90, 100, 300), graphile=rates(100, 50, 300))
    (judged,) = bars.judged(result)
    assert judged[1] == 1.0
    result = made_up("drain", eram=rates(100, 100, 40), graphile=rates(200, 100, 50))
    ((bar, value),) = bars.judged(result)
    assert (bar.other, value, bar.is_met(value)) == ("graphile", 0.8, False)


def test_bars_of_who_takes_no_part_are_left_out():
    assert verdicts(made_up("drain", eram=rates(100), procrastinate=rates(2))) == {
        ("drain, history kept", "procrastinate"): True
    }
    assert verdicts(made_up("drain", eram=rates(100), procrastinate=[])) == {}
    assert verdicts(made_up("unknown", eram=rates(100))) == {}


def test_a_bar_of_another_way_of_using_eram_is_judged_by_that_way():
    result = made_up("drain", eram=rates(100), eram__nothing_kept=rates(130), graphile=rates(110))
    assert verdicts(result) == {
        ("drain, history kept", "graphile"): False,
        ("drain, nothing kept", "graphile"): False,
    }
    result["measures"]["drain"]["sides"]["eram, nothing kept"] = rates(132)
    assert verdicts(result)["drain, nothing kept", "graphile"]


@pytest.mark.parametrize(("nbytes", "is_met"), [(1_000, True), (1_000.4, False), (1_400, False)])
def test_a_most_is_met_up_to_it(nbytes, is_met):
    result = made_up("drain_wal", eram=[{"wal_bytes": nbytes}])
    assert list(verdicts(result).values()) == [is_met]


def test_what_is_no_number_is_not_met():
    (bar,) = [bar for bar in bars.BARS if bar.key == "deadlocks"]
    assert not bar.is_met(float("nan"))
    assert bar.is_met(0)
    assert not bar.is_met(1)


def test_the_table_says_what_is_met_and_what_is_not():
    result = made_up("crowd", scale=0.1, eram=[{"crowd_to_one": 0.5, "errors": 0, "deadlocks": 0}])
    assert bars.rows(result)[1:] == [
        ("64 connections on one queue to one connection", "≥ 1.0", "0.50", "no"),
        ("64 connections on one queue: errors", "≤ 0", "0", "yes"),
        ("64 connections on one queue: deadlocks", "≤ 0", "0", "yes"),
    ]
    text = page.text(result)
    assert text.endswith("2 of 3 bars are met. This was a small run: its figures are rough.")
    result["scale"] = 1.0
    assert page.text(result).endswith("2 of 3 bars are met.")


def test_sides_that_are_neither_yardstick_nor_peer_have_a_table():
    result = made_up(
        "enqueue_one",
        eram=rates(60),
        yardstick=rates(80),
        bare_insert=rates(100),
        graphile=rates(20),
    )
    (row,) = page._other_rows(result)
    assert row == ("enqueue_one", "jobs/s", "60", "bare insert", "100", "0.60")


def test_plots_are_shown_in_the_order_of_what_they_show(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"{page.BEGIN}{page.END}\n")
    result = made_up("crowd", eram=[{"crowd_to_one": 0.5, "errors": 0, "deadlocks": 0}])
    result["rounds"] = 1
    result["setup"] = dict.fromkeys(
        ("eram", "server", "python", "psycopg", "machine", "system", "date"), "x"
    ) | {"settings": {}, "cores": 2, "load_before": 0.1}
    plots = [tmp_path / "results" / f"record.{name}.png" for name in ("waves", "rates", "other")]
    page.rewrite(file, result, plots)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line[:2] == "!["]
    assert [line.partition("](")[2] for line in lines] == [
        "results/record.rates.png)",
        "results/record.waves.png)",
    ]


def test_statements_are_told_from_what_else_is_in_the_log():
    log = b"""\
2026-11-22 09:50:00.000 UTC [10] 0 LOG:  duration: 0.123 ms  statement: select 1
2026-11-22 09:50:00.000 UTC [10] 0 LOG:  duration: 0.123 ms  parse <unnamed>: select 2
2026-11-22 09:50:00.000 UTC [10] 0 LOG:  duration: 0.123 ms  bind <unnamed>: select 2
2026-11-22 09:50:00.000 UTC [10] 745 LOG:  duration: 0.123 ms  execute <unnamed>: select 2
\tfrom a_table_over_two_lines
2026-11-22 09:50:00.000 UTC [10] 745 DETAIL:  Parameters: $1 = 'LOG:  statement: x'
2026-11-22 09:50:00.000 UTC [11] 0 LOG:  duration: 12.000 ms  execute _pg3_0: select 3
2026-11-22 09:50:00.000 UTC [12] 0 LOG:  checkpoint starting: immediate force wait
"""
    assert idling.STATEMENT.findall(log) == [
        (b"0", b"select 1"),
        (b"745", b"select 2"),
        (b"0", b"select 3"),
    ]


@pytest.mark.parametrize(
    ("statement", "is_looking"),
    [
        (b"select * from eram_fetch($1, $2, $3)", True),
        (b"select * from eram_start_waiting($1, $2)", True),
        (b"select is_alive from eram_heartbeat($1)", False),
        (b"select next_tick_at from eram_tick($1)", False),
    ],
)
def test_looks_for_jobs_are_told_from_what_else_a_worker_says(statement, is_looking):
    assert bool(idling.LOOKING.search(statement)) is is_looking
