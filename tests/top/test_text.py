"""Text on a terminal: its width, what may not be in it, numbers, charts and tables."""

from __future__ import annotations

import re
import unicodedata

import pytest

from eram._top.look import Pace
from eram._top.table import Column, Span, styled, table
from eram._top.terminal import keys_of
from eram._top.text import Script, count, duration, width_of
from top.screens import TIMES

RICH, PLAIN = Script("utf-8"), Script("ascii")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail", "mail"),
        ("naïve 日本語 🚀", "naïve 日本語 🚀"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\rd\0", r"a\nb\tc\rd\x00"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f", r"\x7f"),
        ("abc\u202egnp", r"abc\u202egnp"),
        ("a\u200db", r"a\u200db"),
        ("a\u2028b", r"a\u2028b"),
        ("e" + "\u0301" * 40, "e" + "\u0301" * 4),
    ],
)
def test_what_steers_a_terminal_is_shown_by_its_number(text: str, shown: str):
    assert RICH.visible(text) == shown


def test_of_all_characters_none_steers_a_terminal():
    # All scripts, signs and pictures that there are, and tags.
    everything = "".join(map(chr, [*range(0x20000), *range(0xE0000, 0xE0200), 0x10FFFF]))
    for script in (RICH, PLAIN):
        shown = script.visible(everything)
        assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert PLAIN.visible(everything).isascii()


@pytest.mark.parametrize("width", range(8))
@pytest.mark.parametrize(
    "text", ["", "mail", "日本語の名前", "a日b", "e\u0301e\u0301e\u0301e\u0301e"]
)
def test_a_cell_is_as_wide_as_it_is_to_be(text: str, width: int):
    for script in (RICH, PLAIN):
        shown = script.fit(script.visible(text), width)
        assert width_of(shown) == width


def test_what_is_cut_says_so():
    assert RICH.fit("imports", 5) == "impo…"
    assert PLAIN.fit("imports", 5) == "impo~"
    assert RICH.fit("日本語", 4) == "日… "
    assert RICH.fit("7", 3, is_number=True) == "  7"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.4, "0"),
        (99_999, "99,999"),
        (123_456, "123k"),
        (1_234_567, "1.2M"),
        (45_600_000, "46M"),
        (7_000_000_000, "7.0G"),
        (8e15, "many"),
    ],
)
def test_numbers_keep_to_their_column(number: float, shown: str):
    assert count(number) == shown
    assert count(number, is_estimate=True) == f"~{shown}"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-1, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (90_000, "1d01h"),
        (86_400 * 400, "400d00h"),
    ],
)
def test_durations_keep_to_their_column(seconds: float | None, shown: str):
    assert duration(seconds) == shown


def test_a_chart_ends_with_the_latest_and_tells_little_from_nothing():
    assert RICH.chart([0, 1, 50, 100], 60) == "▁▂▅█"
    assert PLAIN.chart([0, 1, 50, 100], 60) == "_.:#".replace(":", PLAIN.chart([50, 100], 2)[0])
    assert RICH.chart([0, 0], 60) == "▁▁"
    assert RICH.chart([], 60) == ""
    # A peak is seen however narrow it is.
    assert RICH.chart([0] * 59 + [9], 10) == "▁" * 9 + "█"
    assert RICH.chart([9] + [0] * 59, 7) == "█" + "▁" * 6
    assert RICH.chart([1, 2], 0) == ""


RUNS = f"shop:mail {TIMES}3, shop:report"
COLUMNS = [
    Column(title="NAME", cell=lambda row: row[0], is_number=False),
    Column(title="WAITING", cell=lambda row: str(row[1]), width=7),
    Column(title="OLDEST", cell=lambda row: str(row[2]), width=6, rank=2),
    Column(title="RUNS", cell=lambda row: row[3], rank=1, is_number=False),
]
ROWS = [("mail", 12, "3s", RUNS), ("日本", 1, "-", "")]


def drawn(width: int | None) -> list[str]:
    lines = table(COLUMNS, ROWS, width=width, script=RICH, least=6, chosen=ROWS[0])
    return [styled(line, has_colours=False) for line in lines]


def test_a_table_gives_up_what_matters_least():
    assert drawn(None) == [
        "NAME  WAITING  OLDEST  RUNS                     ",
        f"mail       12      3s  {RUNS}",
        "日本        1       -                           ",
    ]
    assert "OLDEST" in drawn(40)[0]
    assert "OLDEST" not in drawn(20)[0]
    assert "RUNS" in drawn(20)[0]
    assert drawn(16)[0].split() == ["NAME", "WAITING"]
    for width in range(10, 80):
        assert {width_of(line) for line in drawn(width)} == {width}


def test_styles_can_be_left_out():
    line = [Span("a ", "bad"), Span("b")]
    assert styled(line, has_colours=False) == "a b"
    assert re.sub(r"\x1b\[[\d;]*m", "", styled(line, has_colours=True)) == "a b"


@pytest.mark.parametrize(
    ("sent", "keys", "rest"),
    [
        ("jk", ["j", "k"], ""),
        ("\x1b[A\x1b[B\x1bOH", ["up", "down", "home"], ""),
        ("\x1b[1;5Aq", ["up", "q"], ""),
        ("q\x1b", ["q"], "\x1b"),
        ("\x1b[1;", [], "\x1b[1;"),
        ("\x1bq", ["escape", "q"], ""),
        ("\x1b[200~", ["?unknown"], ""),
    ],
)
def test_keys_are_told_from_what_they_send(sent: str, keys: list[str], rest: str):
    assert keys_of(sent) == (keys, rest)
    # In whatever pieces it comes.
    found, unread = [], ""
    for each in sent:
        more, unread = keys_of(unread + each)
        found += more
    assert (found, unread) == (keys, rest)


def test_a_pace_is_ten_times_as_long_as_what_is_done():
    now = [100.0]
    pace = Pace(2.0, clock=lambda: now[0])
    assert pace.is_due()
    pace.took(0.1)
    assert (pace.seconds, pace.remaining(), pace.is_due()) == (2.0, 2.0, False)
    now[0] += 2.0
    assert pace.is_due()
    pace.took(3.0)
    assert (pace.seconds, pace.remaining()) == (30.0, 30.0)
    now[0] += 31.0
    assert pace.remaining() == 0.0
