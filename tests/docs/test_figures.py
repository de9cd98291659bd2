"""What pages say of speed and of costs is what the benchmark recorded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "docs" / "figures.py"

spec = importlib.util.spec_from_file_location("figures", SCRIPT)
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


@pytest.mark.parametrize("page", figures.PAGES)
def test_figures_are_those_of_the_record(page: str) -> None:
    """The tables are what docs/figures.py writes now."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    assert figures.rewrite(page, text) == text, "run `python docs/figures.py`"


@pytest.mark.parametrize("page", ["README.md", "docs/comparison.md"])
def test_figures_are_there(page: str) -> None:
    """Of eram and of each peer that the table names, drained a second."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    table = text.partition("<!-- begin: figures -->")[2].partition("<!-- end: figures -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 5
    assert all(line.split(" | ")[1].replace(",", "").isdecimal() for line in rows)


def test_costs_are_there() -> None:
    """None of the figures of the page about sizing is left out."""
    text = (PROJECT / "docs" / "operations" / "sizing.md").read_text(encoding="utf-8")
    table = text.partition("<!-- begin: figures -->")[2].partition("<!-- end: figures -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 7
    assert all(line.split(" | ")[1][0].isdecimal() for line in rows)
