"""The benchmark runs, and what it writes has the shape that others read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

RATES = {"jobs_per_second", "wal_bytes"}
LATENCIES = {"p50_ms", "p95_ms", "p99_ms", "worst_ms"}
WAVES = {"jobs_per_second", "last_to_first", "jobs_per_second_by_wave"}
FIGURES = {
    "enqueue_documents": RATES,
    "enqueue_set": RATES,
    "enqueue_one": RATES,
    "enqueue_by_many": RATES,
    "drain": RATES,
    "latency": LATENCIES,
    "waves": WAVES,
}
WITH_PROC = {"server_cpu_us", "worker_cpu_us"}  # figures of systems that have a /proc
SETUP = {
    *("eram", "server", "settings", "python", "psycopg"),
    *("cores", "load_before", "machine", "system", "date"),
}


def run(*options: str | Path) -> str:
    done = subprocess.run(
        (sys.executable, BENCH, *options), capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_tiny_run_measures_everything_and_writes_it_down(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: measured -->what was there<!-- end: measured -->\nafter\n")
    output = run("--rounds", "1", "--scale", "0.001", "--output", tmp_path, "--page", page)

    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["format"] == 1
    assert result["rounds"] == 1
    assert result["setup"].keys() == SETUP
    assert result["setup"]["settings"]["fsync"] == "on"
    assert result["measures"].keys() == FIGURES.keys()
    for name, measure in result["measures"].items():
        assert measure["jobs"] > 0
        others = {"yardstick without a cursor"} if name == "waves" else set()
        assert measure["sides"].keys() == {"eram", "yardstick", *others}
        for (figures,) in measure["sides"].values():
            assert figures.keys() - WITH_PROC == FIGURES[name]
        assert measure["title"] in output
        assert measure["title"] in page.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- begin: measured -->\n")
    assert text.endswith("\n<!-- end: measured -->\nafter\n")
    assert "what was there" not in text


@pytest.mark.parametrize("options", [["--only", "nothing"], ["--scale", "much"]])
def test_a_wrong_option_is_refused(options):
    done = subprocess.run(
        (sys.executable, BENCH, *options), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert options[1] in done.stderr
