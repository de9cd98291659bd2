"""Who lies about who he is, which job is his, or where he was: it does him no good."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from sql.helpers import (
    column,
    complete,
    contents,
    enqueue,
    fetch,
    fetch_late,
    rows,
    start_worker,
    state_of,
    value,
)
from sql.role_helpers import Place
from sql.schedule_helpers import make_due

from .places import WHATS


@pytest.fixture
def roles(place: Place) -> dict[str, psycopg.Connection]:
    return {what: place.connect(place.make_role(what)) for what in WHATS}


# A producer.


@pytest.mark.parametrize(
    "forged",
    [
        *({"id": 1}, {"job_id": 1}, {"run": 5}, {"attempt": 9}, {"state": "completed"}),
        *({"worker": 1}, {"unique_key": "\\x00"}, {"unique_until": "2030-01-31T08:00:00Z"}),
        *({"lane": 0}, {"inserted_at": "2000-01-31T08:00:00Z"}, {"result": 1}, {"errors": []}),
    ],
    ids=lambda forged: next(iter(forged)),
)
def test_a_producer_cannot_choose_what_is_erams(place, roles, forged):
    before = contents(place.owner)
    for document in ({"handler": "a:b", **forged}, {"handler": "a:b", "defaults": forged}):
        with pytest.raises(errors.InvalidParameterValue):
            roles["enqueue"].execute("select eram_enqueue_job(%s)", [Jsonb(document)])
    assert contents(place.owner) == before


def test_no_name_is_written_so_that_it_makes_anothers_key(place, roles):
    """What a key is made of cannot run together: neither in names, nor in arguments."""
    pieces = ("a", "b", ":", "|", ",", '"', "a:b", "\u2028", "a|b", 'a","b')
    documents = [
        {"handler": one, "queue": two, "args": {"x": three}}
        for one in pieces
        for two in pieces
        for three in ("a", None, {"x": "a"})
    ]
    documents += [{"handler": "a", "args": given} for given in ({"x": "1"}, {"x": 1}, {"x": [1]})]
    given = [document | {"unique": True} for document in documents]
    found = rows(roles["enqueue"], "select * from eram_enqueue_jobs(%s)", Jsonb(given))
    assert len({job.id for job in found}) == len(documents)
    assert not any(job.is_duplicate for job in found)


def test_a_producer_cannot_touch_the_job_that_he_knows_the_id_of(place, roles):
    job_id = enqueue(roles["enqueue"])
    worker = start_worker(roles["work"])
    (job,) = fetch(roles["work"], worker)
    before = contents(place.owner)
    calls = (
        *("eram_complete_jobs(array[%(id)s], array[%(run)s])", "eram_cancel_job(%(id)s)"),
        *("eram_fail_job(%(id)s, %(run)s, 'x')", "eram_snooze_job(%(id)s, %(run)s, '0')"),
        *("eram_discard_job(%(id)s, %(run)s)", "eram_delete_job(%(id)s)", "eram_why(%(id)s)"),
        *("eram_release_jobs(array[%(id)s], array[%(run)s])", "eram_update_job(%(id)s, 1)"),
        *("eram_heartbeat(%(worker)s)", "eram_stop_worker(%(worker)s)", "eram_outcome(%(id)s)"),
        *("eram_fetch('default', 1, %(worker)s)", "eram_retry_job(%(id)s)"),
    )
    for call in calls:
        with pytest.raises(errors.InsufficientPrivilege):
            named = {"id": job_id, "run": job.run, "worker": worker}
            roles["enqueue"].execute(f"select {call}", named)
    assert contents(place.owner) == before


# A worker.

FINISHES = (
    "eram_complete_jobs(array[%(id)s], array[%(run)s])",
    "eram_release_jobs(array[%(id)s], array[%(run)s])",
    "eram_fail_job(%(id)s, %(run)s, 'x')",
    "eram_snooze_job(%(id)s, %(run)s, '1 day')",
    "eram_discard_job(%(id)s, %(run)s, 'x')",
    "eram_cancel_job(%(id)s, 'x', %(run)s)",
)


@pytest.mark.parametrize("finish", FINISHES)
def test_a_run_that_is_not_there_is_nobodys(place, roles, finish):
    """A worker that has lost its job cannot hit upon the run of who has it now."""
    job_id = enqueue(roles["enqueue"])
    other = place.connect(place.make_role("work"))
    mine, theirs = start_worker(roles["work"]), start_worker(other)
    (first,) = fetch(roles["work"], mine)
    roles["work"].execute("select eram_fail_job(%s, %s, 'x', delay => '0')", [job_id, first.run])
    (second,) = fetch_late(other, theirs, seconds=30)
    assert second.run == first.run + 1
    before = contents(place.owner)
    for run in (first.run, second.run + 1, 0, -1, 2**31 - 1, 1 - 2**31):
        call = finish % {"id": job_id, "run": run}
        assert column(roles["work"], f"select {call}") in ([], [None], [False])
    assert contents(place.owner) == before
    assert complete(other, [second]) == [job_id]


def test_another_workers_heartbeat_makes_no_dead_worker_live(place, roles):
    """Who is granted "work" may claim for any worker; a worker that has ended stays so."""
    other = place.connect(place.make_role("work"))
    theirs = start_worker(other)
    value(other, "select eram_stop_worker(%s)", theirs)
    before = contents(place.owner)
    assert rows(roles["work"], "select * from eram_heartbeat(%s)", theirs)[0].is_alive is False
    for worker in (theirs, theirs + 1000, 0, -1, 2**63 - 1):
        with pytest.raises((errors.UndefinedObject, errors.ObjectNotInPrerequisiteState)):
            fetch(roles["work"], worker)
    assert contents(place.owner) == before


def test_jobs_fetched_in_anothers_name_are_not_lost(place, roles):
    """They are his: he gives back what he knows nothing of."""
    job_id = enqueue(roles["enqueue"])
    other = place.connect(place.make_role("work"))
    theirs = start_worker(other)
    assert [job.id for job in fetch(roles["work"], theirs)] == [job_id]
    give_back = "select eram_release_other_jobs(%s, 'default', '{}', '{}')"
    assert value(other, give_back, theirs) == job_id
    (job,) = fetch_late(other, theirs, seconds=30)
    assert (job.id, complete(other, [job])) == (job_id, [job_id])


# Settings, which everybody may write.

SETTINGS = {
    "eram.cursor_": "the fetch cursor",
    "eram.command": "the command in hand",
    "eram.is_running_command": "a command that ticks takes no other",
    "eram.notify": "no notifications, for two-phase commits",
    "eram.rescue_swept": "when this session last looked for what a rescue has left",
    "eram.prune_": "the prune cursor",
    "eram.time_passed": "tests of applications, for the owner alone",
}
FORGED = (
    *("on", "off", "", "x", "-1", "9" * 30, "1 day", "{}", "infinity", "'; drop table x; --"),
    *("{9999999999999,999999999}", "[" * 100_000, '{"looked_at": [], "cost": {}}'),
    '{"looked_at": "1000-01-01", "cost": "2000 years", "states": [], "queues": [null]}',
)


def test_these_are_all_settings(place):
    sources = column(place.owner, "select prosrc from pg_proc where proname ~ '^_?eram_'")
    found = {name for source in sources for name in re.findall(r"'(eram\.[a-z_]+)", source)}
    assert found == set(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_forged_setting_is_the_sessions_own(place, roles, setting):
    """Whatever it says, others get their jobs, maintenance is done by others, nothing is lost."""
    liar, honest = roles["work"], place.connect(place.make_role("work"))
    name = {
        "eram.cursor_": value(place.owner, "select _eram_cursor_setting('default')"),
        "eram.prune_": value(place.owner, "select _eram_prune_setting()"),
    }.get(setting, setting)
    lying, working = start_worker(liar), start_worker(honest)
    ids = []
    liar.execute("select eram_tick()")
    for forged in FORGED:
        liar.execute("select set_config(%s, %s, false)", [name, forged])
        ids += [enqueue(roles["enqueue"]) for _ in range(2)]
        fetch(liar, lying, demand=1)
        make_due(place.owner, "eram:prune")
        liar.execute("select eram_tick()")
        liar.execute("select eram_heartbeat(%s)", [lying])
        theirs = fetch_late(honest, working, seconds=30)
        assert len(complete(honest, theirs)) == len(theirs) > 0, forged
    value(liar, "select eram_stop_worker(%s)", lying)
    left = len(ids) - value(place.owner, "select count(*) from eram_finished_jobs")
    if left:
        assert len(complete(honest, fetch_late(honest, working, left, seconds=30))) == left
    assert {state_of(place.owner, job_id) for job_id in ids} == {"completed"}

    make_old = "update {} set finalized_at = finalized_at - interval '30 days'"
    place.owner.execute(make_old.format("eram_finished_jobs"))
    place.owner.execute(make_old.format("eram_completions"))
    make_due(place.owner, "eram:prune")
    honest.execute("select eram_tick()")
    assert value(place.owner, "select count(*) from eram_jobs") == 0


def test_a_cursor_that_hides_jobs_hides_them_from_its_session(place, roles):
    """A true one, put back when it is true no more; the session itself reads all in a minute."""
    liar, honest = roles["work"], place.connect(place.make_role("work"))
    lying, working = start_worker(liar), start_worker(honest)
    ids = [enqueue(roles["enqueue"]) for _ in range(2)]
    assert len(fetch(liar, lying)) == len(ids)
    setting = value(place.owner, "select _eram_cursor_setting('default')")
    cursor = value(liar, "select current_setting(%s)", setting)
    value(liar, "select eram_stop_worker(%s)", lying)
    # What came back lies behind this cursor.
    liar.execute("select set_config(%s, %s, false)", [setting, cursor])
    assert sorted(job.id for job in fetch(honest, working)) == ids
