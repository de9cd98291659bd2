"""Chaos finds out what is wrong with eram: its functions are broken on purpose, one at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from chaos.plan import make_plan
from chaos.run import run

SECONDS = 15.0
TRIES = 3  # whether harm meets a fault is a matter of luck

# Which function, what is replaced in it by what, the harm, and a rule that is broken then.
BROKEN = {
    "a rescue records no error": (
        "eram_rescue_jobs",
        ("where running.job_id = any (v_ids);", "where false;"),
        ["kill", "freeze", "age"],
        "a job runs again for a reason",
    ),
    "a lock that is held is taken for missing": (
        "eram_rescue_jobs",
        ("v_held := _eram_held_keys('eram_workers')", "v_held := '{}'"),
        ["stop", "slow", "age"],
        "a living worker is not rescued from",
    ),
    "a completion is taken from any run": (
        "eram_complete_jobs",
        ("when (running.job_id, running.run) in (", "when true or (running.job_id, 0) in ("),
        ["freeze", "age"],
        "a job ends for a reason",
    ),
    "a tick locks nothing": (
        "eram_tick",
        ("and schedules.action = any (v_actions)\n        for update skip locked;", ";"),
        ["slow", "terminate"],
        "each occurrence is enqueued once",
    ),
    "a limit is counted without its lock": (
        "_eram_take_room",
        ("while not pg_try_advisory_xact_lock(v_class, v_key) loop", "while false loop"),
        ["slow"],
        "a global limit holds",
    ),
}


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_out(server_bin_dir, name):
    function, (right, wrong), kinds, rule = BROKEN[name]

    def prepare(conn):
        query = "select pg_get_functiondef(oid) from pg_proc where proname = %s"
        ((source,),) = conn.execute(query, (function,)).fetchall()
        assert source.count(right) == 1
        conn.execute(source.replace(right, wrong))

    found = set()
    for seed in range(5, 5 + TRIES):
        with tempfile.TemporaryDirectory(prefix="eram-chaos-") as folder:
            plan = make_plan(seed, SECONDS, kinds)
            report = run(
                *(seed, plan, SECONDS, Path(folder)), bin_dir=server_bin_dir, prepare=prepare
            )
        found |= {fault.rule for fault in report.faults}
        if rule in found:
            break
    assert rule in found
