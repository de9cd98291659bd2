"""The pages name every command, and every option where they have a table of options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eram import __main__ as program

DOCS = Path(__file__).parents[2] / "docs"
# Of the others `--help` has the options, and the pages examples.
WITH_TABLES = {"worker": "python.md", "tick": "python.md", "web": "web.md"}


def rows_of(page: str) -> str:
    """Return the first cells of all tables of a page."""
    return "\n".join(re.findall(r"(?m)^\| (`[^|]*)", (DOCS / page).read_text(encoding="utf-8")))


def test_every_command_is_in_the_table() -> None:
    named = re.findall(r"(?m)^`([a-z]+)(?: [^`]*)?` *$", rows_of("python.md"))
    assert {*program.COMMANDS} <= {*named}


@pytest.mark.parametrize("command", WITH_TABLES)
def test_every_option_is_in_a_table(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main([command, "--help"])
    usage = capsys.readouterr().out.partition("\noptions:")[0]
    options = {*re.findall(r"--[a-z-]+", usage)} - {"--help"}
    assert len(options) > 3
    # What is so anyway, and said of its opposite.
    options -= {"--maintenance"}
    assert options - {*re.findall(r"--[a-z-]+", rows_of(WITH_TABLES[command]))} == set()
