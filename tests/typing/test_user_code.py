"""Type checkers understand user code: what is right they accept, and what is wrong they report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

USER = Path(__file__).parent / "user"
PROJECT = Path(__file__).parents[2]
Report = dict[str, dict[int, str]]


def _mypy() -> Report:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="),
            *("--no-pretty", "--cache-dir", str(PROJECT / ".mypy_cache" / "user"), str(USER)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=USER,
    )
    assert done.stderr == ""
    found: Report = defaultdict(dict)
    for line in done.stdout.splitlines():
        if match := re.match(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)", line):
            found[Path(match["file"]).name][int(match["line"])] = match["text"]
    return found


def _pyright(tmp_path: Path) -> Report:
    """Ask the strict mode, as an editor has it."""
    settings = {"include": [str(USER)], "typeCheckingMode": "strict"}
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(config)),
            *("--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found: Report = defaultdict(dict)
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            line = each["range"]["start"]["line"] + 1
            found[Path(each["file"]).name][line] = each["message"]
    return found


@pytest.mark.parametrize("check", [lambda _: _mypy(), _pyright], ids=["mypy", "pyright"])
def test_user_code(check: Callable[[Path], Report], tmp_path: Path) -> None:
    found = check(tmp_path)
    for path in sorted(USER.glob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong = {number for number, line in enumerate(lines, 1) if "# wrong" in line}
        reported = found[path.name]
        unexpected = {number: reported[number] for number in reported.keys() - wrong}
        missing = {number: lines[number - 1].strip() for number in wrong - reported.keys()}
        assert (unexpected, missing) == ({}, {}), path.name
