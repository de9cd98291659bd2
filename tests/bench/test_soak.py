"""The soak accounts for each job, sees what grows, and ends what it has started."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from soak import __main__ as command  # noqa: E402
from soak import growth, verdict  # noqa: E402 - the benchmark is a folder that is run
from soak.accounts import Accounts  # noqa: E402
from soak.ledger import Ledger  # noqa: E402
from soak.load import KINDS, SINGLE  # noqa: E402
from soak.occurrences import SCHEDULES, Occurrences  # noqa: E402
from soak.plan import CYCLES, Plan  # noqa: E402
from soak.samples import Series  # noqa: E402
from soak.uniques import Uniques  # noqa: E402

MEGABYTE = 1024 * 1024
SECOND = 10**9
BEGUN_AT = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan(180, 2000)
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def sampled(level, *, while_held=0.0):
    """Make a sample for each second out of a function of how many cycles have passed."""
    held = {
        second
        for hold in PLAN.holds
        for second in range(round(hold.from_seconds), round(hold.to_seconds))
    }
    times = range(int(PLAN.seconds))
    values = [level(at / PLAN.cycle_seconds) + (while_held if at in held else 0) for at in times]
    return times, ["reader" if at in held else None for at in times], values


def judged(group, level, **options):
    return growth.judge(growth.RULES[group], PLAN.cycle_seconds, *sampled(level, **options))


def sawtooth(cycles):
    """Rise and fall three times in a cycle, not equally high from one cycle to the next."""
    return (cycles * 3 % 1) * (1 + 0.1 * (int(cycles) % 3))


PLATEAUS = {
    "it is flat": lambda cycles: 80,
    "it fills up at first": lambda cycles: min(80, 40 * cycles),
    "it rises and falls within each cycle": lambda cycles: 80 * sawtooth(cycles),
    "it steps up once, early": lambda cycles: 50 if cycles < 5 else 80,
    "it leaps up once, late": lambda cycles: 900 if int(cycles) == 10 else 80,
    "it shrinks": lambda cycles: 100 - 5 * cycles,
    "it is next to nothing": lambda cycles: 0.05 * cycles,
}
GROWTHS = {
    "from nothing": lambda cycles: 10 * cycles,
    "by a fifth of the whole a cycle": lambda cycles: 100 + 20 * cycles,
    "under a sawtooth": lambda cycles: 10 * cycles + 20 * sawtooth(cycles),
    "ever faster": lambda cycles: 2**cycles,
    "in the second half only": lambda cycles: 80 if cycles < 8 else 120,
}
UNITS = {"bytes": MEGABYTE, "memory": MEGABYTE, "dead rows": 1_000}


@pytest.mark.parametrize("group", UNITS)
@pytest.mark.parametrize("name", PLATEAUS)
def test_a_series_that_has_found_its_level_passes(group, name):
    found = judged(group, lambda cycles: UNITS[group] * PLATEAUS[name](cycles))
    assert not found.is_too_much


@pytest.mark.parametrize("group", UNITS)
@pytest.mark.parametrize("name", GROWTHS)
def test_a_series_that_grows_does_not_pass(group, name):
    found = judged(group, lambda cycles: UNITS[group] * GROWTHS[name](cycles))
    assert found.is_too_much
    assert found.second > found.first > 0


def test_what_piles_up_while_a_snapshot_is_open_is_let_pass():
    assert not judged("dead rows", lambda cycles: 1_000, while_held=10**6).is_too_much


def test_latency_counts_while_a_snapshot_is_open_too():
    def level(cycles):
        return 10 if cycles < 8 else 100

    assert judged("latency", level).is_too_much
    assert not judged("latency", lambda cycles: 10, while_held=500).is_too_much


def test_what_has_no_samples_in_one_half_is_not_judged():
    times, holds, values = sampled(lambda cycles: 80)
    gone = [
        value if at < PLAN.seconds / 3 else None for at, value in zip(times, values, strict=True)
    ]
    rule = growth.RULES["bytes"]
    assert growth.judge(rule, PLAN.cycle_seconds, times, holds, gone) is None


def series_of(level):
    series = Series()
    for at, hold, value in zip(*sampled(level), strict=True):
        series.begin(at, hold)
        series.put("bytes", "eram_job_specs", value)
        series.put("bytes", "eram_jobs_args_index", 3 * MEGABYTE)
    return series


def test_the_verdict_names_what_grows():
    (detail,) = list(verdict._growing(PLAN, series_of(lambda cycles: MEGABYTE * 10 * cycles)))
    assert detail.startswith("eram_job_specs: from 79.3 in the first half to 104.3 MB")
    assert not list(verdict._growing(PLAN, series_of(lambda cycles: MEGABYTE)))


def test_a_short_run_is_not_judged_by_what_grows():
    finding = verdict._judge_growth(Plan(60, 100), series_of(lambda cycles: MEGABYTE * 10 * cycles))
    assert finding.is_met
    assert "too short" in finding.note


def test_an_hour_has_the_times_that_are_the_default():
    plan = Plan(3600, 2000)
    assert (plan.prune_seconds, plan.settings["autovacuum_naptime"]) == (30, "60s")
    assert plan.settings["checkpoint_timeout"] == "300s"
    assert [hold.kind for hold in plan.holds].count("writer") == 1
    assert len(plan.holds) == CYCLES
    assert all(a.to_seconds < b.from_seconds for a, b in itertools.pairwise(plan.holds))


@pytest.fixture
def ledger():
    made = Ledger(KINDS, window_seconds=2)
    made.occurrences = occurrences(0)
    return made


def ran(job_id, *, run=1, handler="plain", begun=5, note="-"):
    return f"ran {job_id} {run} {handler} {begun} {begun + 1} {note}"


def ended(job_id, state="completed", handler="plain", told=9):
    return f"ended {job_id} {state} {handler} {told}"


def accounts(**given):
    """Make what eram's tables say when all is well, but for what is given."""
    nothing = {"states": {}, "scheduled_ids": set(), "stored": 0, "removed": 0, "overdue": 0}
    return Accounts(**{**nothing, "contradictions": [], "violations": [], **given})


@pytest.mark.parametrize("is_early", [False, True])
def test_a_job_that_was_completed_is_accounted_for(ledger, is_early):
    lines = [ran(1, begun=2 * SECOND), ended(1)]
    if is_early:
        ledger.read(lines)
        assert "jobs ran that nobody has enqueued, such as 1" in ledger.faults()
    ledger.enqueued(1, "single", 1 * SECOND)
    if not is_early:
        ledger.read(lines)
    assert list(accounts(stored=1).faults(ledger)) == []
    assert ledger.take_latencies() == [1.0]
    assert ledger.ended_counts == {"completed": 1}


def test_evidence_may_come_in_any_order(ledger):
    lines = [ran(1, handler="flaky"), ran(1, run=2, handler="flaky"), ended(1, handler="flaky")]
    orders = list(itertools.permutations(lines))
    for job_id, order in enumerate(orders, start=1):
        ledger.enqueued(job_id, "flaky", 0)
        ledger.read(line.replace(" 1 ", f" {job_id} ", 1) for line in order)
    assert list(accounts(stored=len(orders)).faults(ledger)) == []
    assert ledger.ended_counts == {"completed": len(orders)}


@pytest.mark.parametrize(
    ("kind", "lines", "fault"),
    [
        ("single", [], "1 jobs have not ended, such as 1"),
        ("single", [ran(1)], "1 jobs have not ended, such as 1"),
        ("single", [ended(1)], "was completed after 0 runs instead of completed after 1"),
        ("single", [ran(1), ended(1, "discarded")], "was discarded after 1 runs instead of comp"),
        ("single", [ran(1), ran(1, run=2), ended(1)], "was completed after 2 runs instead of"),
        ("single", [ran(1), ended(1), ran(1, run=2)], "job 1 ran more often than it should"),
        ("single", [ran(1), ended(1), ended(1)], "job 1 ended twice: completed, completed"),
        ("single", [ran(1), ended(1), ran(2)], "jobs ran that nobody has enqueued, such as 2"),
        ("single", [ran(1), ended(1), "gibberish"], "a worker has written 'gibberish'"),
        ("flaky", [ran(1), ended(1)], "was completed after 1 runs instead of completed after 2"),
        ("tomorrow", [], "of 1 jobs for tomorrow 0 are there"),
    ],
)
def test_a_job_that_is_not_accounted_for_is_a_fault(ledger, kind, lines, fault):
    ledger.enqueued(1, kind, 0)
    ledger.read(lines)
    (found,) = list(accounts(stored=1).faults(ledger))
    assert fault in found


def test_a_job_may_run_while_it_is_cancelled(ledger):
    for job_id in (1, 2, 3):
        ledger.enqueued(job_id, "cancelled", 0)
    ledger.cancelled(1)
    ledger.read([ran(2)])
    ledger.cancelled(2)
    ledger.read([ran(1), ran(3), ended(3)])
    assert list(accounts(stored=3).faults(ledger)) == []
    assert ledger.ended_counts == {"cancelled": 2, "completed": 1}


@pytest.mark.parametrize("numbers", [{"stored": 0, "removed": 1}, {"stored": 1, "removed": 2}])
def test_numbers_that_do_not_add_up_are_a_fault(ledger, numbers):
    ledger.enqueued(1, "single", 0)
    ledger.read([ran(1), ended(1)])
    ledger.occurrences = occurrences(1)
    assert list(accounts(stored=1, removed=1).faults(ledger)) == []
    (fault,) = list(accounts(**numbers).faults(ledger))
    assert "1 jobs were enqueued and 1 scheduled, but" in fault


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"removed": 9}, None),
        ({"removed": 0}, "nothing was removed"),
        ({"removed": 9, "overdue": 2}, "2 jobs ended more than 35 s ago and are there"),
    ],
)
def test_jobs_that_the_prune_leaves_are_a_fault(ledger, given, fault):
    ledger.enqueued_counts["single"] = 9
    findings = verdict.judge(PLAN, ledger, accounts(**given), verdict.Troubles(), Series())
    (found,) = [finding for finding in findings if finding.title == "jobs were pruned"]
    assert list(found.details) == ([fault] if fault else [])


def told(uniques, job_id, at, *, is_duplicate=False):
    uniques.told("k", job_id, is_duplicate=is_duplicate, called_at=at, returned_at=at + 2)


def test_a_key_that_was_given_twice_is_a_fault():
    uniques = Uniques()
    told(uniques, 1, 10)
    told(uniques, 2, 20)
    uniques.ran(1, 15)
    assert uniques.faults == []
    uniques.ran(2, 35)
    told(uniques, 3, 50)
    told(uniques, 4, 60)
    uniques.ran(3, 65)
    assert uniques.faults == ["job 4 was stored while job 3 had key 'k'"]


def test_two_jobs_in_one_window_are_a_fault():
    uniques = Uniques(window=100)
    for job_id, at in enumerate((0, 99, 197)):
        told(uniques, job_id, at)
    assert uniques.faults == []
    told(uniques, 3, 290)
    assert uniques.faults == ["jobs 2 and 3 have key 'k' in one window"]


@pytest.mark.parametrize("window", [None, 100])
def test_a_duplicate_of_a_job_whose_key_is_free_is_a_fault(window):
    uniques = Uniques(window)
    told(uniques, 1, 0)
    told(uniques, 1, 80, is_duplicate=True)
    uniques.ended(1, 90)
    assert uniques.faults == []
    told(uniques, 1, 110, is_duplicate=True)
    assert uniques.faults == ["a duplicate of job 1 was refused though its key was free"]


def occurrences(seconds):
    """Make some seconds of a schedule, and none of the other."""
    made = Occurrences()
    made.first = dict.fromkeys(SCHEDULES, BEGUN_AT)
    made.after_last = {**made.first, "soak_each_second": BEGUN_AT + timedelta(seconds=seconds)}
    return made


def occur(occurrences, second, job_id):
    at = BEGUN_AT + timedelta(seconds=second)
    occurrences.ran(f"soak_each_second@{at:%Y-%m-%dT%H:%M:%SZ}", job_id)


def test_each_occurrence_has_one_job():
    made = occurrences(3)
    for second in range(3):
        occur(made, second, second)
    occur(made, 2, 2)  # another run of the same job
    assert len(made.due()) == 3
    assert list(made.faults()) == []


def test_occurrences_without_a_job_or_with_two_are_faults():
    made = occurrences(4)
    for second, job_id in ((0, 1), (1, 2), (1, 3), (3, 4), (4, 5)):
        occur(made, second, job_id)
    faults = list(made.faults())
    assert [fault.replace(f"{BEGUN_AT:%Y-%m-%d %H:%M}", "") for fault in faults] == [
        "no job ran for soak_each_second at :02+00:00",
        "2 jobs ran for soak_each_second at :01+00:00",
        "a job ran for soak_each_second at :04+00:00, which was not due",
    ]


def soak(folder, *options):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        (sys.executable, "-m", "soak", "--no-plots", "--output", str(folder), *options),
        env={**os.environ, "PYTHONPATH": str(BENCH), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_short_soak_holds_and_is_written_down(tmp_path):
    with soak(tmp_path, "--minutes", "0.2", "--rate", "100") as process:
        output, _ = process.communicate(timeout=110)
    assert process.returncode == 0, output
    assert output.endswith("all of it held\n")
    (path,) = tmp_path.glob("*.soak.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert (result["format"], result["plan"]["rate"]) == (1, 100)
    assert result["setup"]["settings"]["fsync"] == "on"
    assert all(finding["is_met"] for finding in result["verdict"])

    of_jobs = result["accounts"]
    assert of_jobs["enqueued"].keys() == KINDS.keys(), "a kind of job was never enqueued"
    assert of_jobs["there"]["scheduled"] == of_jobs["enqueued"]["tomorrow"]
    assert of_jobs["removed"] > 0
    assert all(of_jobs["ended"][state] > 0 for state in ("completed", "discarded", "cancelled"))
    assert of_jobs["by schedules"] > 1
    assert of_jobs["unique"]["unique"]["stored"] > 0

    count = len(result["times"])
    assert set(result["holds"]) <= {None, "reader", "writer"}
    assert all(
        len(values) == count for names in result["series"].values() for values in names.values()
    )
    assert {"rates", "latency", "dead rows", "bytes", "jobs", "per job"} <= result["series"].keys()
    sizes = result["series"]["bytes"]
    assert {"eram_job_specs", "eram_job_specs_pkey", "eram_jobs_args_index"} <= sizes.keys()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_soak_that_is_ended_leaves_nothing_behind(number, tmp_path):
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not say which processes a process has started")
    with soak(tmp_path, "--minutes", "0.5", "--rate", "20") as process:
        assert any("jobs/s," in line for line in process.stdout), "it shows how far it has got"
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        started = {int(pid) for pid in text.split()}
        (server,) = tmp_path.glob("eram-soak-*/server/data/postmaster.pid")
        started.add(int(server.read_text().split()[0]))
        assert len(started) >= 4, "two workers, the server and its guard"
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert output.endswith("interrupted: nothing is written\n")
        assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 60
    while any(map(is_alive, started)):
        assert time.monotonic() < deadline, "it has left processes behind"
        time.sleep(0.1)


def is_alive(pid):
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("option", ["--minutes", "--rate"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
def test_a_wrong_number_is_refused(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([option, value])
    assert option in capsys.readouterr().err


def test_the_shares_of_the_kinds_are_the_whole_rate():
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)
    assert SINGLE.share > 0
