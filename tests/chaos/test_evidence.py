"""The evidence survives a kill, and becomes a history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chaos.evidence import SUFFIX, Record, read_all
from chaos.history import Final, read

TESTS = Path(__file__).parents[1]
WRITER = """
import itertools, pathlib, sys
from chaos.evidence import Record
record = Record(pathlib.Path(sys.argv[1]))
for number in itertools.count():
    record.write("told", number=number)
    print(number, flush=True)
"""


def test_what_was_written_before_a_kill_is_there(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    ) as process:
        said = [int(process.stdout.readline()) for _ in range(1000)]
        process.kill()
        said += [int(line) for line in process.stdout if line.endswith(b"\n")]
    numbers = [event["number"] for event in read_all(tmp_path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= len(said)


def test_half_a_line_is_passed_over(tmp_path):
    record = Record(tmp_path)
    record.write("told", number=1)
    record.close()
    (tmp_path / f"1{SUFFIX}").write_text('{"event": "told", "at": 5}\n{"event": "to')
    assert len(read_all(tmp_path)) == 2


def test_events_become_a_history():
    begun = {"event": "run begun", "run": 1, "token": "a", "queue": "default"}
    history = read(
        [
            {**begun, "at": 1, "pid": 7, "job": 1},
            {"event": "run ended", "at": 3, "pid": 7, "job": 1, "run": 1, "how": "returned"},
            {**begun, "at": 2, "pid": 7, "job": 2},
            {"event": "killed", "at": 4, "pid": 1, "victim": 7},
            {**begun, "at": 5, "pid": 8, "job": 3},
            {"event": "call begun", "at": 1, "pid": 9, "call": "c", "tokens": ["a", "b"]},
        ],
        Final(),
    )
    ended = {run.job: (run.how, run.ended_at) for run in history.runs}
    assert ended == {1: ("returned", 3), 2: (None, 4), 3: (None, float("inf"))}
    assert [(call.tokens, call.came_to) for call in history.calls] == [(("a", "b"), "unknown")]
