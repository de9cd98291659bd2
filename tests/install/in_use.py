"""A database in use, and what must be true of a copy of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

TABLES = """
    select relname
    from pg_class
    where
        relname ~ '^eram_'
        and relkind = 'r'
        and relnamespace = to_regnamespace(quote_ident(current_schema()))
    order by relname
"""
SEQUENCES = ("eram_job_specs_job_id_seq", "eram_workers_id_seq", "eram_schedule_runs_id_seq")
# Removed by an administrator, so that no first tick makes it anew: the tests count what runs.
CALM = "select eram_tick(0), eram_unschedule('eram:reindexer')"
RECORD = "select _eram_run_recorder('{}')"

# Unique in each way: until the job ends, for a window, and for a window that outlives the job.
UNIQUE_JOBS = (
    {"handler": "app:once", "args": {"a": 1}, "unique": True},
    {"handler": "app:daily", "args": {"a": 1}, "unique": {"period": "1 day"}},
    {"handler": "app:done", "args": {"a": 1}, "unique": {"period": "1 day"}},
)
SETTINGS = """
    select eram_set_queue('mail', priority => 3, global_limit => 2, is_announcing => true,
        max_age => '{"completed": "0"}');
    select eram_pause_queue('paused');
    select eram_register_handler('app:default', max_attempts => 4, tags => '{a,b}',
        aliases => '{app:former}');
    select eram_set_handler('app:default', '{"priority": 2, "queue": "chosen"}');
"""
SCHEDULES = """
    select eram_schedule('hourly', '1 hour', 'app:hourly', missed => 'all');
    select eram_schedule('changed', '0 7 * * *', 'app:changed', timezone => 'Asia/Tokyo');
    select eram_run_schedule('hourly');
    select eram_pause_schedule('changed');
    select eram_schedule_sql('sql', '1 day', 'select 1');
    select eram_run_schedule('sql');
    select eram_schedule_maintenance('prune', '10 minutes', '{"limit": 7}');
"""


def value(conn: psycopg.Connection, query: str, *parameters: Any) -> Any:
    """Return the first value of the first row."""
    return conn.execute(query, parameters).fetchone()[0]


def in_schema(dsn: str, schema: str, **others: str) -> str:
    """Return the DSN whose sessions look into this schema alone."""
    path = sql.Identifier(schema).as_string().replace(" ", "\\ ")
    return make_conninfo(dsn, options=f"-csearch_path={path}", **others)


def contents(dsn: str) -> dict[str, list[str]]:
    """Return every row of every table, and where each sequence stands, as text."""
    with psycopg.connect(dsn) as conn:
        names = [row[0] for row in conn.execute(TABLES)]
        ordered = 'select t::text from {0} as t order by t::text collate "C"'
        found = {name: [row[0] for row in conn.execute(ordered.format(name))] for name in names}
        for name in SEQUENCES:
            row = conn.execute(f"select last_value, is_called from {name}").fetchone()
            found[name] = [str(row)]
        return found


def fetch(conn: psycopg.Connection, queue: str, count: int, worker: int) -> list[tuple[int, int]]:
    query = "select id, run from eram_fetch(%s, %s, %s)"
    return conn.execute(query, (queue, count, worker)).fetchall()


def enqueue(conn: psycopg.Connection, handler: str, **options: Any) -> int:
    document = Jsonb({"handler": handler, **options})
    return value(conn, "select eram_enqueue_job(%s::jsonb)", document)


@contextlib.contextmanager
def used(dsn: str) -> Iterator[dict[str, int]]:
    """Fill a database with jobs in all states and all else; yield the jobs by what they are.

    Workers and waiting sessions are there as long as the block, as during a dump.
    """
    with (
        psycopg.connect(dsn, autocommit=True) as conn,
        psycopg.connect(dsn, autocommit=True) as proof,
        psycopg.connect(dsn, autocommit=True) as waiting,
    ):
        conn.execute(CALM)
        # What is removed on completion is counted where a recorder has been at work.
        conn.execute(RECORD)
        conn.execute(SETTINGS)
        jobs = fill_with_jobs(conn, proof)
        conn.execute(SCHEDULES)
        # The command is taken, by a ticker that will be gone.
        conn.execute("select eram_tick(10)")
        conn.execute(RECORD)
        waiting.execute("select eram_start_waiting('default')")
        yield jobs


def fill_with_jobs(conn: psycopg.Connection, proof: psycopg.Connection) -> dict[str, int]:
    """Make jobs in all states; those that run are a direct worker's, and of one behind a pooler."""
    register = "select eram_start_worker(%s, '{work}', %s)"
    direct = value(proof, register, "direct", proof.info.backend_pid)
    pooled = value(conn, register, "behind a pooler", None)
    jobs: dict[str, int] = {}

    ends: dict[str, Callable[[int, int], Any]] = {
        "completed": lambda id_, run: conn.execute(
            "select eram_complete_jobs(array[%s]::bigint[], array[%s]::integer[],"
            """ array['{"said": "done"}']::jsonb[])""",
            (id_, run),
        ),
        "discarded": lambda id_, run: conn.execute(
            "select eram_discard_job(%s, %s, 'no use')", (id_, run)
        ),
        "cancelled": lambda id_, run: conn.execute("select eram_cancel_job(%s, 'enough')", (id_,)),
        "retryable": lambda id_, run: conn.execute(
            "select eram_fail_job(%s, %s, 'no luck')", (id_, run)
        ),
        "snoozed": lambda id_, run: conn.execute(
            "select eram_snooze_job(%s, %s, interval '1 day')", (id_, run)
        ),
        "running": lambda id_, run: None,
        "running, unique": lambda id_, run: None,
        "running for the last time": lambda id_, run: None,
    }
    for what, end in ends.items():
        options: dict[str, Any] = {"queue": "work", "args": {"what": what}}
        if what == "running, unique":
            options["unique"] = True
        if what == "running for the last time":
            options["max_attempts"] = 1
        jobs[what] = enqueue(conn, "app:work", **options)
        ((id_, run),) = fetch(proof, "work", 1, direct)
        end(id_, run)
    jobs["behind a pooler"] = enqueue(conn, "app:work", queue="work")
    fetch(conn, "work", 1, pooled)

    # Of a queue that keeps none, so that nothing but its count is left.
    enqueue(conn, "app:removed", queue="mail")
    for id_, run in fetch(proof, "mail", 1, direct):
        ends["completed"](id_, run)

    for document in UNIQUE_JOBS:
        jobs[document["handler"]] = enqueue(conn, queue="unique", **document)
    done = [(id_, run) for id_, run in fetch(proof, "unique", 3, direct)]
    for id_, run in done:
        if id_ == jobs["app:done"]:
            ends["completed"](id_, run)
        else:
            conn.execute("select eram_release_jobs(array[%s], array[%s])", (id_, run))
    jobs["available"] = enqueue(
        conn, "app:odd", queue="odd", tags=["a", 'b "c"'], meta={"trace": "\\x\n\t€"}, priority=9
    )
    jobs["scheduled"] = enqueue(conn, "app:later", delay="1 day", queue="odd")
    jobs["by its former name"] = enqueue(conn, "app:former")
    jobs["paused"] = enqueue(conn, "app:work", queue="paused")
    return jobs


def check_copy(dsn: str, jobs: dict[str, int]) -> None:
    """Fail unless a copy goes on where the original was."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert conn.execute("select * from eram_check()").fetchall() == []
        check_that_unique_keys_hold(conn, jobs)
        check_that_schedules_have_fired(conn)
        check_that_running_jobs_come_back(conn, jobs)
        # Ids go on behind those that there are.
        assert enqueue(conn, "app:new") > max(jobs.values())
        workers = value(conn, "select max(id) from eram_workers")
        assert value(conn, "select eram_start_worker('new', '{default}')") > workers
        runs = value(conn, "select max(id) from eram_schedule_runs")
        conn.execute("select eram_schedule_sql('next', '1 day', 'select 1')")
        conn.execute("select eram_run_schedule('next')")
        assert value(conn, "select max(id) from eram_schedule_runs") > runs
        # What administrators have set still holds.
        query = "select queue, priority, tags, handler from eram_jobs where id = %s"
        found = enqueue(conn, "app:former")
        expected = ("chosen", 2, ["a", "b"], "app:default")
        assert conn.execute(query, (found,)).fetchone() == expected
        worker = value(conn, "select eram_start_worker('asks', '{mail,paused}')")
        mail = [enqueue(conn, "app:mail", queue="mail") for _ in range(3)]
        assert fetch(conn, "paused", 10, worker) == []
        limited = fetch(conn, "mail", 10, worker)
        assert len(limited) == 2
        ids, runs_of = zip(*limited, strict=True)
        conn.execute("select eram_complete_jobs(%s, %s::integer[])", (list(ids), list(runs_of)))
        kept = "select array_agg(id) from eram_jobs where queue = 'mail'"
        assert set(value(conn, kept)) == set(mail) - set(ids)
        assert conn.execute("select * from eram_check()").fetchall() == []


def check_that_unique_keys_hold(conn: psycopg.Connection, jobs: dict[str, int]) -> None:
    for document in UNIQUE_JOBS:
        assert enqueue(conn, queue="unique", **document) == jobs[document["handler"]]
    again = {"queue": "work", "args": {"what": "running, unique"}, "unique": True}
    assert enqueue(conn, "app:work", **again) == jobs["running, unique"]


def check_that_schedules_have_fired(conn: psycopg.Connection) -> None:
    """What fired before the dump does not fire again, and what was taken is not run twice."""
    before = "select count(*) from eram_jobs where handler ~ 'hourly|changed'"
    assert value(conn, before) == 1
    counts = "select name, run_count, is_paused from eram_schedules order by name"
    found = conn.execute(counts).fetchall()
    due = conn.execute("select * from eram_tick(0)").fetchone()
    assert due is not None
    assert value(conn, before) == 1
    assert conn.execute(counts).fetchall() == found
    entries = {name: (run_count, is_paused) for name, run_count, is_paused in found}
    assert entries["hourly"] == (1, False)
    assert entries["changed"] == (0, True)
    assert "eram:reindexer" not in entries


def check_that_running_jobs_come_back(conn: psycopg.Connection, jobs: dict[str, int]) -> None:
    """The workers are gone with the old database, and this can be proven at once."""
    # As after an hour: tests do not wait for it. A server that has just started gives workers
    # behind a pooler more time, and then the lifeline is what helps.
    conn.execute(
        "update eram_workers set heartbeat_at = heartbeat_at - interval '1 hour',"
        " missing_since = case when is_direct then clock_timestamp() - interval '1 hour' end"
    )
    conn.execute("update eram_running_jobs set attempted_at = attempted_at - interval '1 hour'")
    while value(conn, "select eram_rescue_jobs(interval '1 minute')"):
        pass
    states = dict(conn.execute("select id, state from eram_jobs").fetchall())
    for what in ("running", "running, unique", "behind a pooler"):
        assert states[jobs[what]] == "available", what
    assert states[jobs["running for the last time"]] == "discarded"
    for what in ("completed", "discarded", "cancelled", "retryable"):
        assert states[jobs[what]] == what
    ended = "select end_reason from eram_workers where name = 'direct'"
    assert value(conn, ended) == "died"
