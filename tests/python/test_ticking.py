"""A worker ticks: schedules and maintenance are carried out as long as there is one."""

from __future__ import annotations

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, schedule_of, value, wait_for_state
from proxy import PoolerLink, Proxy

RUNS = "select count(*) from eram_jobs where meta ->> 'schedule' = %s and state = 'completed'"
TICKED = "select count(*) = 4 from eram_schedules where name like 'eram:%%'"
# What somebody must be granted who only runs jobs.
WORKER_FUNCTIONS = (
    "eram_version",
    "eram_start_worker",
    "eram_heartbeat",
    "eram_stop_worker",
    "eram_fetch",
    "eram_complete_jobs",
    "eram_fail_job",
    "eram_release_jobs",
    "eram_release_other_jobs",
    "eram_start_waiting",
    "eram_stop_waiting",
    "eram_tick",
    "eram_finish_command",
    "eram_retention",
)


def with_options(dsn, options):
    return psycopg.conninfo.make_conninfo(dsn, options=options)


def schedule_job(conn, name="pulse", schedule="1 second"):
    conn.execute("select eram_schedule(%s, %s, 'sample_jobs:nothing')", (name, schedule))


def hear_of_a_cancel(conn, name):
    """Cancel a job that runs, and wait until its handler is told: that takes a heartbeat."""
    answer = sample_jobs.wait_for_cancel.enqueue(conn, name=name)
    assert sample_jobs.started[name].wait(PATIENCE)
    told = len(sample_jobs.seen)
    conn.execute("select eram_cancel_job(%s)", (answer.id,))
    eventually(lambda: len(sample_jobs.seen) > told)


def test_worker_carries_out_schedules(conn, start_worker):
    schedule_job(conn)
    start_worker()
    eventually(lambda: value(conn, RUNS, "pulse") >= 2)
    assert schedule_of(conn, "pulse")["last_error"] is None


def test_first_tick_makes_the_maintenance(conn, start_worker):
    start_worker()
    eventually(lambda: value(conn, TICKED))


def test_worker_without_maintenance_only_runs_jobs(conn, start_worker):
    """Its heartbeats go on: it hears of cancelled jobs."""
    schedule_job(conn)
    due_at = schedule_of(conn, "pulse")["next_run_at"]
    start_worker(maintenance=False)
    eventually(lambda: value(conn, "select clock_timestamp() > %s", due_at))
    for name in ("a", "b", "c"):
        hear_of_a_cancel(conn, name)
    assert schedule_of(conn, "pulse")["next_run_at"] == due_at
    assert value(conn, "select count(*) from eram_schedules") == 1


def test_two_workers_carry_out_each_occurrence_once(conn, start_worker):
    conn.execute("create table effects (made_at timestamptz default clock_timestamp())")
    conn.execute(
        "select eram_schedule_sql('sql', '1 second', 'insert into effects default values')"
    )
    schedule_job(conn)
    first_at = schedule_of(conn, "pulse")["next_run_at"]
    for _ in range(2):
        start_worker()
    eventually(lambda: schedule_of(conn, "pulse")["run_count"] >= 5)
    eventually(lambda: schedule_of(conn, "sql")["run_count"] >= 5)

    # In one snapshot: an occurrence has been counted, and is due still or has taken effect.
    counts = conn.execute(
        "select"
        " (select run_count from eram_schedules where name = 'pulse'),"
        " (select count(*) from eram_jobs where meta ->> 'schedule' = 'pulse'),"
        " (select count(distinct meta ->> 'scheduled_for') from eram_jobs),"
        " (select run_count from eram_schedules where name = 'sql'),"
        " (select count(*) from effects)"
        " + (select count(*) from eram_schedule_runs where name = 'sql'),"
        " extract(epoch from clock_timestamp() - %s)",
        (first_at,),
    ).fetchone()
    assert counts[0] == counts[1] == counts[2]
    assert counts[3] == counts[4]
    assert max(counts[0], counts[3]) <= counts[5] + 1, "one a second"


def test_failing_tick_ends_nothing(conn, start_worker, caplog):
    schedule_job(conn)
    conn.execute("alter function eram_tick rename to eram_hidden_tick")
    start_worker()
    eventually(lambda: "eram_tick(integer) does not exist" in caplog.text)
    hear_of_a_cancel(conn, "a")
    conn.execute("alter function eram_hidden_tick rename to eram_tick")
    eventually(lambda: value(conn, RUNS, "pulse") >= 1)
    complaints = [each for each in caplog.records if "does not exist" in each.message]
    assert len(complaints) == 1, "the same complaint is not repeated with every beat"


def test_schedule_that_fails_is_named_in_the_log(dsn, conn, start_worker, caplog):
    schedule_job(conn, "broken")
    conn.execute("update eram_schedules set job = '{}' where name = 'broken'")
    schedule_job(conn)
    start_worker(with_options(dsn, "-c client_min_messages=error"))
    eventually(lambda: 'schedule "broken" failed: ' in caplog.text)
    eventually(lambda: value(conn, RUNS, "pulse") >= 1)
    assert schedule_of(conn, "broken")["last_error"]


def backend_of(conn):
    return value(
        conn,
        "select max(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'eram maintenance'",
    )


def test_limits_of_the_role_do_not_cut_off_ticks(dsn, conn, start_worker):
    """A slow tick under a strict statement_timeout; pauses under a strict idle timeout."""
    conn.execute(
        "create function slow() returns trigger language plpgsql"
        " as $$ begin perform pg_sleep(0.5); return new; end $$;"
        "create trigger slow before insert on eram_job_specs for each row"
        " when (new.handler = 'sample_jobs:nothing') execute function slow()"
    )
    schedule_job(conn)
    options = "-c statement_timeout=300 -c lock_timeout=1 -c idle_session_timeout=200"
    if conn.info.server_version >= 170_000:
        options += " -c transaction_timeout=300"
    # The queue's session has no reason to be left alone for long.
    start_worker(with_options(dsn, options), poll_interval=0.05)
    backend = backend_of(conn)
    eventually(lambda: value(conn, RUNS, "pulse") >= 2)
    assert backend_of(conn) == backend
    conn.execute("drop trigger slow on eram_job_specs")


def test_tick_that_waits_for_a_lock_gives_it_up(conn, connect, start_worker, caplog):
    """Who holds a lock for long must not have the worker taken for dead."""
    schedule_job(conn)
    with connect() as other, other.transaction():
        other.execute("lock table eram_schedules in access exclusive mode")
        start_worker()
        eventually(lambda: "lock timeout" in caplog.text)
        hear_of_a_cancel(conn, "a")
    eventually(lambda: value(conn, RUNS, "pulse") >= 1)


@pytest.fixture
def worker_role(conn):
    """A role that may do what a worker must, and no more."""
    role = f"{conn.info.dbname}_worker"
    conn.execute(f"create role {role} login password 'secret'")
    for function in WORKER_FUNCTIONS:
        conn.execute(f"grant execute on function {function} to {role}")
    yield role
    conn.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.usefixtures("settled_server")
def test_worker_that_is_not_the_owner_leaves_commands_to_others(
    dsn, conn, connect, start_worker, worker_role
):
    ghost = connect()
    lost = sample_jobs.nothing.enqueue(conn)
    worker = value(
        ghost, "select eram_start_worker('ghost', '{default}', %s)", ghost.info.backend_pid
    )
    ghost.execute("select eram_fetch('default', 10, %s)", (worker,))
    conn.execute("create table effects (value int)")
    schedule_job(conn)
    conn.execute("select eram_schedule_sql('sql', '1 second', 'insert into effects values (1)')")
    conn.execute(
        "select eram_schedule_sql('top', '1 second', 'insert into effects values (2)',"
        " is_top_level => true)"
    )
    commands = ("sql", "top", "eram:reindexer")
    for task in ("prune", "lifeline", "recorder", "reindexer"):
        conn.execute("select eram_schedule_maintenance(%s)", (task,))
    conn.execute("update eram_schedules set next_run_at = clock_timestamp()")

    by_role = start_worker(psycopg.conninfo.make_conninfo(dsn, user=worker_role, password="secret"))
    ghost.close()
    assert wait_for_state(conn, lost.id, "completed")["attempt"] == 2
    eventually(lambda: value(conn, RUNS, "pulse") >= 2)
    for name in ("eram:prune", "eram:lifeline", "eram:recorder"):
        eventually(lambda name=name: schedule_of(conn, name)["run_count"] >= 1)
        assert schedule_of(conn, name)["last_error"] is None
    assert [schedule_of(conn, name)["run_count"] for name in commands] == [0, 0, 0]
    assert value(conn, "select count(*) from effects") == 0
    by_role.stop()
    eventually(lambda: by_role.join(0.05))

    start_worker()
    eventually(lambda: value(conn, "select count(distinct value) = 2 from effects"))
    eventually(lambda: schedule_of(conn, "eram:reindexer")["run_count"] == 1)


def test_worker_says_how_long_jobs_are_kept(conn, start_worker, caplog):
    caplog.set_level("INFO", logger="eram")
    conn.execute("""select eram_set_queue('mail', max_age => '{"completed": "infinity"}')""")
    start_worker(queues={"default": 1, "mail": 1})
    lines = [record.message for record in caplog.records if "are kept" in record.message]
    assert lines == [
        "finished jobs are kept: completed 1 day, cancelled 1 day, discarded 7 days",
        (
            'finished jobs of queue "mail" are kept: completed for ever, cancelled 1 day,'
            " discarded 7 days"
        ),
    ]


def test_worker_behind_a_pooler_ticks(dsn, conn, start_worker, request):
    pooler = Proxy(conn, PoolerLink)
    request.addfinalizer(pooler.close)
    conn.execute("create table effects (value int)")
    schedule_job(conn)
    conn.execute("select eram_schedule_sql('sql', '1 second', 'insert into effects values (1)')")
    conn.execute(
        "select eram_schedule_sql('slow', '1 second', 'select pg_sleep(600)',"
        " timeout => '0.5 seconds')"
    )
    start_worker(pooler.dsn(dsn), poll_interval=0.1)
    eventually(lambda: value(conn, RUNS, "pulse") >= 2)
    eventually(lambda: value(conn, "select count(*) from effects") >= 2)
    eventually(lambda: "timeout" in (schedule_of(conn, "slow")["last_error"] or ""))
    assert b"set session" not in pooler.sent, "a setting that another client would inherit"
    assert b"set_config('default_transaction_isolation'" not in pooler.sent, "likewise"
