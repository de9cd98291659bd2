"""A database that runs itself: pg_cron ticks, and there is no worker and no other client."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from eram._server.programs import share_directory
from eram.embedded import EmbeddedServer

OWNER = "app"

# pg_cron starts what is due at each full minute, so this takes up to a minute and a half.
LONGEST_SECONDS = 130

# Another session's snapshot keeps a REINDEX CONCURRENTLY waiting; once cut off, it leaves this.
LEFTOVER = "eram_jobs_args_index_ccnew"

INDEXES = """
    select relations.relname, pg_relation_filenode(relations.oid)
    from pg_index as definitions
    join pg_class as relations on relations.oid = definitions.indexrelid
    where definitions.indrelid = 'eram_job_specs'::regclass
"""

PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"

ERRORS = "select name, last_error from eram_schedules where last_error is not null"

# What must come true without anyone's doing, by name.
GOALS = {
    "the job of a schedule is enqueued": """
        select count(*) > 0 from eram_jobs where handler = 'app:greet'
    """,
    "again and again": """
        select run_count > 2 from eram_schedules where name = 'greet'
    """,
    "at a full minute": """
        select run_count > 0 from eram_schedules where name = 'minutely'
    """,
    "an SQL command runs": """
        select count(*) > 1 from done
    """,
    "finished jobs are pruned": """
        select count(*) = 0 from eram_jobs where handler = 'app:old'
    """,
    "the job of a dead worker is rescued": """
        select state = 'available' and errors -> 0 ->> 'type' = 'rescued'
        from eram_jobs
        where handler = 'app:orphan'
    """,
    "a leftover is dropped": f"""
        select to_regclass('{LEFTOVER}') is null
    """,
    "indexes are rebuilt": f"""
        select count(*) = 3
        from ({INDEXES}) as now (name, file)
        where not exists (select from before where before = now)
    """,
}


@pytest.fixture
def pg_cron(
    server_bin_dir: Path, crash_server: Callable[..., EmbeddedServer]
) -> Iterator[psycopg.Connection]:
    """A superuser's connection to a server with pg_cron; ERAM_REQUIRE_PG_CRON=1 forbids to skip."""
    if not (share_directory(server_bin_dir) / "extension" / "pg_cron.control").exists():
        if os.environ.get("ERAM_REQUIRE_PG_CRON"):
            pytest.fail("this server has no pg_cron, which this run must have")
        pytest.skip("this server has no pg_cron; CI has one that does")
    server = crash_server(
        **{
            "shared_preload_libraries": "pg_cron",
            "cron.use_background_workers": "on",
            "max_worker_processes": "20",
        }
    )
    with psycopg.connect(server.dsn, autocommit=True) as superuser:
        superuser.execute("create extension pg_cron")
        superuser.execute(f"create role {OWNER} login")
        yield superuser


def create_database(superuser: psycopg.Connection, name: str) -> psycopg.Connection:
    """Have a database with eram that belongs to an ordinary role, whose connection this is."""
    superuser.execute(f"create database {name} owner {OWNER}")
    superuser.execute(f"alter database {name} set search_path = jobs, public")
    owner = psycopg.connect(superuser.info.dsn, user=OWNER, dbname=name, autocommit=True)
    owner.execute("create schema jobs; create extension eram schema jobs")
    return owner


@pytest.mark.timeout(LONGEST_SECONDS + 60)
def test_a_database_runs_itself(pg_cron):
    """Two of them, one ticked by its owner, as the documentation advises, one by a superuser."""
    with contextlib.ExitStack() as connections:
        owners = {}
        for user in (OWNER, "postgres"):
            database = f"ticked_by_{user}"
            owner = connections.enter_context(create_database(pg_cron, database))
            leave_work_behind(owner)
            for line in documented_lines(database, user):
                pg_cron.execute(line.encode())
            owners[user] = owner
        missing = [(user, goal) for user in owners for goal in GOALS]
        deadline = time.monotonic() + LONGEST_SECONDS
        while missing := [
            (user, goal) for user, goal in missing if not reached(owners[user], goal)
        ]:
            assert time.monotonic() < deadline, (
                missing,
                [owner.execute(ERRORS).fetchall() for owner in owners.values()],
                pg_cron.execute("select * from cron.job_run_details").fetchall(),
            )
            time.sleep(0.2)

        for user, owner in owners.items():
            # Whoever ticks, the owner's command has the owner's rights.
            assert owner.execute("select distinct ran_as, session from done").fetchall() == [
                (OWNER, user)
            ]
            assert owner.execute(ERRORS).fetchall() == []
            assert owner.execute("select * from eram_check()").fetchall() == []
    failed = "select command, return_message from cron.job_run_details where status = 'failed'"
    assert pg_cron.execute(failed).fetchall() == []


def documented_lines(database: str, user: str) -> list[str]:
    """Return the lines that the page shows, but with the daily one run every minute."""
    found = re.search(r"```sql pg_cron\n(.+?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the page shows no lines for pg_cron"
    lines = found[1].splitlines()
    assert len(lines) == 2
    for old, new in {
        "'app'": f"'{database}'",
        "'app_owner'": f"'{user}'",
        "'0 0 * * *'": "'* * * * *'",
    }.items():
        assert old in found[1]
        lines = [line.replace(old, new) for line in lines]
    return lines


def reached(conn: psycopg.Connection, goal: str) -> bool:
    row = conn.execute(GOALS[goal]).fetchone()
    return row is not None and row[0]


def leave_work_behind(owner: psycopg.Connection) -> None:
    """Have something to do for each part of the maintenance, and nobody to do it."""
    owner.execute("select eram_enqueue_job('app:old') from generate_series(1, 10)")
    owner.execute("select eram_enqueue_job('app:orphan', queue => 'orphans')")
    with psycopg.connect(owner.info.dsn, autocommit=True) as worker:
        pid = worker.info.backend_pid
        query = "select eram_start_worker('doomed', '{default,orphans}', %s)"
        (worker_id,) = worker.execute(query, [pid]).fetchone() or (None,)
        worker.execute(
            """
            select eram_complete_jobs(array_agg(id), array_agg(run))
            from eram_fetch('default', 10, %s)
            """,
            [worker_id],
        )
        assert worker.execute(
            "select count(*) from eram_fetch('orphans', 1, %s)", [worker_id]
        ).fetchone() == (1,)
    for table in ("eram_finished_jobs", "eram_completions"):
        owner.execute(f"update {table} set finalized_at = finalized_at - interval '2 days'")

    with psycopg.connect(owner.info.dsn) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from eram_job_specs")
        for milliseconds in (100, 400, 1600, 6400):
            owner.execute(f"set statement_timeout = {milliseconds}")
            with pytest.raises(psycopg.errors.QueryCanceled):
                owner.execute("reindex index concurrently eram_jobs_args_index")
            owner.execute("reset statement_timeout")
            if owner.execute("select to_regclass(%s)", [LEFTOVER]).fetchone() != (None,):
                break
    owner.execute(f"create table before as {INDEXES} and definitions.indisvalid")

    owner.execute("create table done (ran_as text, session text)")
    owner.execute("select eram_schedule('greet', '1 second', 'app:greet')")
    owner.execute("select eram_schedule('minutely', '* * * * *', 'app:greet')")
    owner.execute(
        """
        select eram_schedule_sql(
            'sql', '1 second', 'insert into done values (current_user, session_user)')
        """
    )
    owner.execute("select eram_schedule_maintenance('prune', '5 seconds')")
    owner.execute("select eram_unschedule('eram:reindexer')")
    owner.execute(
        """
        select eram_schedule_sql('drop leftovers', '5 seconds', $$
            do $do$
            declare
                v_command text;
            begin
                set local lock_timeout = '100 ms';
                for v_command in
                    select replace(command, 'CONCURRENTLY ', '') from eram_reindex_plan('{}')
                loop
                    execute v_command;
                end loop;
            end
            $do$
        $$)
        """
    )
