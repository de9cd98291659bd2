"""The benchmark runs, and what it writes has the shape that others read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import bars  # noqa: E402 - the benchmark is a folder that is run
import environments  # noqa: E402
import page  # noqa: E402

RATES = {"jobs_per_second", "wal_bytes"}
DRAINS = {*RATES, "disk_bytes"}
LATENCIES = {"p50_ms", "p95_ms", "p99_ms", "worst_ms"}
WAVES = {"jobs_per_second", "last_to_first", "jobs_per_second_by_wave"}
IDLE = {"statements_per_second", "transaction_ids"}
FIGURES = {
    "enqueue_documents": RATES,
    "enqueue_set": RATES,
    "enqueue_one": RATES,
    "enqueue_by_many": RATES,
    "enqueue_busy": {"jobs_per_second", "alone_jobs_per_second"},
    "drain": DRAINS,
    "drain_pair": DRAINS,
    "drain_processes": {"jobs_per_second", "processes_4_to_one"},
    "crowd": {"jobs_per_second", "crowd_to_one", "errors", "deadlocks"},
    "drain_wal": {"wal_bytes", "wal_enqueue_bytes", "wal_drain_bytes"},
    "latency": LATENCIES,
    "pinned_latency": {
        *("p50_ms", "p99_ms", "snapshot_p50_ms", "snapshot_p99_ms", "snapshot_p50_ratio"),
        *("pair_p50_ms", "pair_p99_ms", "pair_p50_ratio"),
    },
    "waves": WAVES,
    "worker_waves": {*WAVES, *(f"pinned_{key}" for key in LATENCIES)},
    "long_drain": {"jobs_per_second", "last_tenth_to_first", "jobs_per_second_by_tenth"},
    "backlog": {
        f"{who}_{what}" for who in ("reader", "writer") for what in ("fetch_ms", "last_to_first")
    },
    "claims": {
        *("few_buffers", "many_buffers", "kept_buffers", "many_buffers_ratio"),
        *("kept_buffers_ratio", "few_ms", "many_ms", "kept_ms", "many_ms_ratio", "kept_ms_ratio"),
    },
    "idle": IDLE,
    "idle_queues": IDLE,
}
ALONE = {"eram"}
BESIDE_BARE_INSERT = {"eram", "yardstick", "bare insert"}
SIDES = {
    "enqueue_one": BESIDE_BARE_INSERT,
    "enqueue_by_many": BESIDE_BARE_INSERT,
    "enqueue_busy": {"eram", "eram, notification off"},
    "drain": {"eram", "eram, nothing kept", "yardstick", "plain yardstick"},
    "drain_wal": {"eram", "eram, without GIN indexes", "yardstick"},
    "waves": {"eram", "yardstick", "yardstick without a cursor"},
    **dict.fromkeys(("pinned_latency", "worker_waves", "claims", "idle", "idle_queues"), ALONE),
}
# Figures of systems that have a /proc.
WITH_PROC = {"server_cpu_us", "worker_cpu_us", "server_cpu_percent", "worker_cpu_percent"}
NOT_POSITIVE = {
    *("errors", "deadlocks", "transaction_ids"),
    *("jobs_per_second_by_wave", "jobs_per_second_by_tenth"),
}
SETUP = {
    *("eram", "server", "settings", "python", "psycopg"),
    *("cores", "load_before", "machine", "system", "date"),
}
QUICK = ("enqueue_documents", "enqueue_by_many", "drain", "waves")
DEEP = ("drain_wal", "long_drain", "backlog", "claims")
PEERS = [file.stem for file in environments.find()]


def run(*options: str | Path) -> str:
    command = (sys.executable, BENCH, "--rounds", "1", "--scale", "0.001", *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def only(names):
    return [option for name in names for option in ("--only", name)]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(QUICK, id="quick"),
        pytest.param(DEEP, id="deep"),
        pytest.param(FIGURES.keys() - {*QUICK, *DEEP}, id="others", marks=pytest.mark.nightly),
    ],
)
def test_a_tiny_run_measures_and_writes_it_down(names, tmp_path):
    page_file = tmp_path / "page.md"
    page_file.write_text(
        "before\n<!-- begin: measured -->what was there<!-- end: measured -->\nafter\n"
    )
    output = run(*only(names), "--record", "--output", tmp_path, "--page", page_file)

    path = tmp_path / "record.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert (result["format"], result["rounds"], result["away"]) == (3, 1, {})
    assert result["setup"].keys() == SETUP
    assert result["setup"]["settings"]["fsync"] == "on"
    assert result["measures"].keys() == set(names)
    text = page_file.read_text(encoding="utf-8")
    for name, measure in result["measures"].items():
        assert measure["sides"].keys() == SIDES.get(name, {"eram", "yardstick"})
        assert measure["without"] == {}
        for label, (figures,) in measure["sides"].items():
            assert measure["jobs"][label] > 0 or name.startswith("idle")
            assert figures.keys() - WITH_PROC == FIGURES[name]
            assert all(figures[key] > 0 for key in FIGURES[name] - NOT_POSITIVE)
        assert measure["title"] in output
        assert measure["title"] in text
    assert text.startswith("before\n<!-- begin: measured -->\n")
    assert text.endswith("\n<!-- end: measured -->\nafter\n")
    assert "what was there" not in text
    for shown in (output, text):
        assert f"{len(bars.judged(result))} bars are met. This was a small run" in shown


@pytest.mark.nightly
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_installed_is_measured_beside_eram(name, tmp_path):
    if not environments.Environment.of(name).is_made:
        pytest.skip(f"{name} is not installed: make bench PEERS={name} does that")
    output = run("--peers", name, *only(["drain", "latency"]), "--output", tmp_path)
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    about = result["sides"][name]
    assert {"version", "settings", "history"} <= about.keys()
    assert result["away"] == {}
    for measure, figures in (("drain", DRAINS), ("latency", LATENCIES)):
        assert result["measures"][measure]["without"] == {}
        (of_peer,) = result["measures"][measure]["sides"][name]
        assert of_peer.keys() - WITH_PROC == figures
    assert name in output


@pytest.mark.parametrize("name", PEERS)
def test_what_a_peer_is_stands_at_the_top_of_its_file(name):
    environment = environments.Environment.of(name)
    about = environment.header["tool"]["bench"]
    assert {"settings", "history"} <= about.keys()
    assert ("finished" in about) != ("left" in about)
    assert 0 < about.get("share", 1) <= 1
    for package in environment.packages:
        assert "==" in package or "@" in package, "another version is another measurement"
    assert environment.version[0].isdigit()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# no header", "has no header"),
        ("# /// script\n# dependencies = [\n# ///\n", "Invalid value"),
    ],
)
def test_a_file_without_a_proper_header_is_refused(text, reason, tmp_path):
    file = tmp_path / "peer.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=reason):
        environments.Environment.at(file)


def test_a_python_that_is_nowhere_is_said(tmp_path):
    file = tmp_path / "future.py"
    file.write_text(
        '# /// script\n# requires-python = ">=4.99"\n# dependencies = ["future==1.0"]\n# ///\n'
    )
    environment = environments.Environment.at(file)
    try:
        with pytest.raises(environments.UnavailableError, match=r"Python >=4\.99"):
            environment.make()
        assert not environment.is_made
    finally:
        environment.folder.rmdir()


@pytest.mark.parametrize("program", environments.PROGRAMS.values(), ids=lambda path: path.name)
def test_the_program_that_drives_peers_is_there(program):
    assert program.is_file()


def made_up(**sides):
    """Make a result of two rounds out of the jobs/s of each."""
    return {
        "scale": 1.0,
        "away": {"lost": "it could not be installed"},
        "sides": {
            "eram": {"settings": "", "history": ""},
            **{name: {"version": "1", "settings": "s", "history": "h"} for name in sides},
        },
        "measures": {
            "drain": {
                "title": "drain",
                "jobs": dict.fromkeys(["eram", *sides], 100),
                "sides": {
                    label: [{"jobs_per_second": rate} for rate in rates]
                    for label, rates in {"eram": [100, 200], **sides}.items()
                    if rates
                },
                "without": {label: "it failed" for label, rates in sides.items() if not rates},
            }
        },
    }


def test_the_table_of_peers_says_who_is_ahead_and_who_is_left_out():
    result = made_up(fast=[200, 400], even=[101, 201], slow=[50, 50], broken=[])
    text = page.text(result)
    assert "300 (0.50)" in text
    assert "50 (3.00)" in text
    assert "- lost: it could not be installed." in text
    assert "- drain: broken: it failed." in text
    (ahead,) = page._ahead(result)
    assert ahead == "drain (100 jobs), jobs/s: fast 300; eram 150."


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--only", "nothing"], "nothing"),
        (["--scale", "much"], "much"),
        (["--peers", "grafile"], "graphile"),
    ],
)
def test_a_wrong_option_is_refused(options, named):
    done = subprocess.run(
        (sys.executable, BENCH, *options), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert named in done.stderr
