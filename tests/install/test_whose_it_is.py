"""Commands act on eram alone: on no look-alike of others, and on nothing that is named like it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eram import check, uninstall, upgrade
from eram import install as installer
from eram._server import extension
from eram.install import install
from install.in_use import enqueue, in_schema, value
from install.test_removal import counts, install_by
from upgrades import described, differences

VERSION = extension.version()
PATIENCE = 60
WAYS = pytest.mark.parametrize("way", ["extension", "script"])
# Whoever calls it leaves a trace that outlives a transaction that fails.
PLANT = """
    create schema aaa;
    create sequence aaa.calls;
    grant usage on schema aaa to public;
    grant all on sequence aaa.calls to public;
    create table aaa.eram_job_specs (job_id bigint);
    create function aaa.eram_version() returns text language sql as $$
        select '0.0.1' where pg_catalog.nextval('aaa.calls') > 0
    $$;
"""


@pytest.fixture
def intruder(bare_dsn: str) -> Iterator[str]:
    """A role that may create schemas, and has planted a look-alike of eram."""
    role = f"{conninfo_to_dict(bare_dsn)['dbname']}_intruder"
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute(f"create role {role} login password 'secret'")
        try:
            conn.execute(f"grant create on database {conn.info.dbname} to {role}")
            conn.execute(f"set role {role}")
            conn.execute(PLANT)
            conn.execute("reset role")
            yield role
        finally:
            conn.execute("reset role")
            conn.execute(f"drop owned by {role} cascade")
            conn.execute(f"drop role {role}")


def is_untouched(dsn: str) -> bool:
    with psycopg.connect(dsn) as conn:
        return not value(conn, "select is_called from aaa.calls")


@WAYS
def test_look_alike_of_others_is_not_seen(bare_dsn, intruder, capsys, way):
    """Not by a superuser either, who is a member of all roles as it were."""
    install_by(way, bare_dsn, "jobs")
    capsys.readouterr()
    for argv in ([], ["--adopt"]):
        assert upgrade.main(["--dsn", bare_dsn, *argv]) == 0
        said = f'eram in schema "jobs" is already at {VERSION}\n'
        assert capsys.readouterr().out.startswith(said)
    assert check.main(["--dsn", bare_dsn]) == 2
    assert 'eram is in schema "jobs", which is not in the search_path' in capsys.readouterr().err
    assert check.main(["--dsn", in_schema(bare_dsn, "jobs")]) == 0
    assert uninstall.main(["--dsn", bare_dsn]) == 0
    assert 'eram is removed from schema "jobs"' in capsys.readouterr().out
    assert is_untouched(bare_dsn)


def test_look_alike_is_called_neither_where_it_is_alone_nor_in_the_search_path(
    bare_dsn, intruder, capsys
):
    for dsn in (bare_dsn, in_schema(bare_dsn, "aaa")):
        for main in (upgrade.main, uninstall.main, check.main):
            assert main(["--dsn", dsn]) == 2
            said = f'what is in schema "aaa" belongs to role "{intruder}", and is not trusted'
            assert said in capsys.readouterr().err
    assert is_untouched(bare_dsn)
    assert installer.main(["--dsn", bare_dsn]) == 0
    assert upgrade.main(["--dsn", bare_dsn]) == 0
    assert is_untouched(bare_dsn)


def test_member_of_the_owner_sees_it_and_acts_as_the_owner(bare_dsn, intruder, capsys):
    """So does a superuser who says so; and who has been let in uses it by his search_path."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        conn.execute("drop schema aaa cascade")
        conn.execute(f"set role {intruder}")
        install(conn, schema="jobs")
        conn.execute("reset role")
        member, reader = f"{intruder}_member", f"{intruder}_reader"
        for name in (member, reader):
            conn.execute(f"create role {name} login password 'secret'")
        conn.execute(f"grant {intruder} to {member}")
        conn.execute("set search_path to jobs")
        conn.execute(f"set role {intruder}")
        conn.execute(f"select eram_grant('{reader}', 'read')")
        conn.execute("reset role")
        try:
            as_reader = make_conninfo(in_schema(bare_dsn, "jobs"), user=reader, password="secret")
            assert check.main(["--dsn", as_reader]) == 0
            assert uninstall.main(["--dsn", as_reader]) == 1
            said = f'eram belongs to role "{intruder}", who alone can remove it'
            assert said in capsys.readouterr().err
            assert uninstall.main(["--dsn", bare_dsn]) == 2
            assert f"options=-crole={intruder}" in capsys.readouterr().err
            through = make_conninfo(bare_dsn, user=member, password="secret")
            assert upgrade.main(["--dsn", through]) == 0
            through = make_conninfo(bare_dsn, options=f"-crole={intruder}")
            assert uninstall.main(["--dsn", through]) == 0
        finally:
            for name in (member, reader):
                conn.execute(f"drop owned by {name}")
                conn.execute(f"drop role {name}")


@WAYS
def test_of_several_one_must_be_chosen(bare_dsn, capsys, way):
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        install(conn, schema="j1")
        # By hand, since the command would refuse a second one.
        conn.execute("reset search_path")
        conn.execute("create schema j2")
        if way == "extension":
            conn.execute("create extension eram schema j2")
        else:
            with conn.transaction():
                conn.execute("set local search_path to j2")
                conn.execute(extension.plain_body())
        before = counts(bare_dsn)
        names = '"j2", "j1"' if way == "extension" else '"j1", "j2"'
        for main in (uninstall.main, upgrade.main):
            assert main(["--dsn", bare_dsn]) == 2
            said = capsys.readouterr().err
            assert f"eram is in several schemas, {names}, and none of them is in the" in said
            assert "options=-csearch_path=j" in said
        assert counts(bare_dsn) == before
        if way == "extension":
            assert upgrade.main(["--dsn", in_schema(bare_dsn, "j1"), "--adopt"]) == 1
            said = 'the extension is in schema "j2" already, and a database has one'
            assert said in capsys.readouterr().err
        assert uninstall.main(["--dsn", in_schema(bare_dsn, "j2")]) == 0
        assert 'eram is removed from schema "j2"' in capsys.readouterr().out
        assert value(conn, "select j1.eram_version()") == VERSION
        assert uninstall.main(["--dsn", bare_dsn]) == 0


OWN = {
    "create table jobs.eram_notes (id serial, note text)": (
        "sequence eram_notes_id_seq; table eram_notes"
    ),
    "create table jobs.eram_more (id int generated always as identity)": "table eram_more",
    "create function jobs.eram_mine() returns int language sql as 'select 1'": (
        "function eram_mine()"
    ),
    "create function jobs.eram_stats(text) returns int language sql as 'select 1'": (
        "function eram_stats(text)"
    ),
    "create view jobs.eram_seen as select 1 as one": "view eram_seen",
    "create materialized view jobs.eram_kept as select 1 as one": "relation eram_kept",
    "create domain jobs.eram_word as text": "type eram_word",
    "create type jobs.eram_mood as enum ('fine')": "type eram_mood",
    "create type jobs.eram_pair as (a int, b int)": "type eram_pair",
    "create sequence jobs.eram_numbers": "sequence eram_numbers",
    "create function jobs.eram_version(text) returns int language sql as 'select 1'": (
        "one of function eram_version(), eram_version(text)"
    ),
    "create aggregate jobs.eram_sum(int) (sfunc = int4pl, stype = int)": (
        "function eram_sum(integer)"
    ),
}


def test_what_the_owner_has_made_himself_is_neither_removed_nor_adopted(bare_dsn, capsys):
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        install(conn, schema="jobs")
        conn.execute("reset search_path")
        for statement, name in OWN.items():
            with conn.transaction(force_rollback=True):
                conn.execute(statement)
                earlier = described(conn, "jobs")
                said = f"this is not eram's: {name}; move it to another schema first"
                with pytest.raises(uninstall.UninstallError) as refused:
                    uninstall.uninstall(conn)
                assert said in str(refused.value)
                with pytest.raises(upgrade.UpgradeError) as refused_too:
                    upgrade.adopt(conn)
                assert said in str(refused_too.value)
                assert differences(described(conn, "jobs"), earlier) == []
        for statement in OWN:
            conn.execute(statement)
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        assert f"; and {len(OWN) + 1 - 5} more; move it" in capsys.readouterr().err


def test_what_is_moved_away_stays(bare_dsn, intruder):
    """Whoever it belongs to."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        install(conn, schema="jobs")
        conn.execute("reset search_path")
        conn.execute("create table jobs.eram_notes as select 'kept' as note")
        conn.execute(f"grant create, usage on schema jobs to {intruder}")
        conn.execute(f"set role {intruder}")
        conn.execute("create function jobs.eram_guest() returns int language sql as 'select 1'")
        conn.execute("reset role")
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        conn.execute("alter table jobs.eram_notes set schema public")
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        conn.execute("alter function jobs.eram_guest() set schema public")
        assert uninstall.main(["--dsn", bare_dsn]) == 0
        assert value(conn, "select note from eram_notes") == "kept"
        assert value(conn, "select public.eram_guest()") == 1


@WAYS
def test_own_things_beside_an_extension_stay(bare_dsn, way):
    """What an extension has made is known: nothing else is taken."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        if way == "extension":
            conn.execute("create extension eram")
        else:
            install(conn)
            upgrade.adopt(conn)
        conn.execute("create table eram_notes as select 'kept' as note")
        assert uninstall.main(["--dsn", bare_dsn]) == 0
        assert value(conn, "select note from eram_notes") == "kept"


def test_newer_install_is_removed_by_its_own_package(bare_dsn, capsys):
    """This one does not know what all is eram's."""
    with psycopg.connect(bare_dsn, autocommit=True) as conn:
        install(conn)
        conn.execute("create table eram_novelties ()")
        conn.execute(
            "create or replace function eram_version() returns text language sql immutable"
            " as $$ select '99.0.0' $$"
        )
    assert uninstall.main(["--dsn", bare_dsn]) == 1
    said = capsys.readouterr().err
    assert f"eram is at version 99.0.0 here, of which this package, {VERSION}" in said
    assert "use the package of that version" in said


@WAYS
def test_tables_in_use_are_a_refusal(bare_dsn, capsys, way, monkeypatch):
    """No table is left locked while it waits, so that a worker that holds one can go on."""
    install_by(way, bare_dsn, "public")
    monkeypatch.setattr(uninstall, "_LOCK_PATIENCE", 0.5)
    before = counts(bare_dsn)
    with psycopg.connect(bare_dsn) as user:
        user.execute("select count(*) from eram_workers")
        assert uninstall.main(["--dsn", bare_dsn]) == 1
        assert capsys.readouterr().err == (
            "eram was not removed: its tables are in use; stop workers, and whatever else uses"
            " eram, and try again\n"
        )
    assert counts(bare_dsn) == before
    assert uninstall.main(["--dsn", bare_dsn]) == 0


@WAYS
def test_uninstall_waits_for_who_needs_other_tables_too(bare_dsn, way):
    """He holds the last table and wants the first one, which an uninstall has by then: no deadlock.

    He gets it, since between its attempts an uninstall holds none.
    """
    install_by(way, bare_dsn, "public")
    with contextlib.ExitStack() as ending:
        user = ending.enter_context(psycopg.connect(bare_dsn))
        watch = ending.enter_context(psycopg.connect(bare_dsn, autocommit=True))
        user.execute("lock table eram_workers in access share mode")
        failed: list[Exception] = []

        def remove() -> None:
            try:
                with psycopg.connect(bare_dsn, application_name="removal") as conn:
                    # Of a deadlock he would be the victim, as a worker is that waits first.
                    conn.execute("set deadlock_timeout = '1min'")
                    uninstall.uninstall(conn)
            except Exception as error:
                failed.append(error)

        monkey = pytest.MonkeyPatch()
        ending.callback(monkey.undo)
        monkey.setattr(uninstall, "_LOCK_PATIENCE", float(PATIENCE))
        removal = threading.Thread(target=remove, daemon=True)
        removal.start()
        waiting = """
            select count(*)
            from pg_stat_activity
            where application_name = 'removal' and wait_event_type = 'Lock'
        """
        deadline = time.monotonic() + PATIENCE
        while not value(watch, waiting):
            assert time.monotonic() < deadline
        for table in ("eram_cancelled_runs", "eram_job_specs", "eram_queued_jobs"):
            user.execute(f"lock table {table} in row exclusive mode")
        assert not failed
        user.commit()
        removal.join(PATIENCE)
        assert not removal.is_alive()
        assert failed == []
        assert value(watch, "select count(*) from pg_class where relname ~ '^eram_'") == 0


@WAYS
def test_busy_sessions_see_no_deadlock(bare_dsn, way):
    """They see that it is gone; the removal is done, and nothing is left."""
    install_by(way, bare_dsn, "public")
    ends: list[psycopg.Error] = []
    turns = [0, 0, 0]

    def work(number: int) -> None:
        with psycopg.connect(bare_dsn, autocommit=True) as conn:
            try:
                worker = value(conn, "select eram_start_worker('w', '{q}', 1)")
                while True:
                    with conn.transaction():
                        for _ in range(3):
                            enqueue(conn, "app:work", queue="q")
                    claimed = "select id, run from eram_fetch('q', 10, %s)"
                    jobs = conn.execute(claimed, [worker]).fetchall()
                    conn.execute(
                        "select eram_complete_jobs(%s::bigint[], %s::int[])",
                        ([job_id for job_id, _ in jobs], [run for _, run in jobs]),
                    )
                    turns[number] += 1
            except psycopg.Error as error:
                ends.append(error)

    monkey = pytest.MonkeyPatch()
    sessions = [threading.Thread(target=work, args=[each], daemon=True) for each in range(3)]
    for each in sessions:
        each.start()
    deadline = time.monotonic() + PATIENCE
    while min(turns) < 3:
        assert not ends
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with monkey.context() as patch, psycopg.connect(bare_dsn) as conn:
        patch.setattr(uninstall, "_LOCK_PATIENCE", float(PATIENCE))
        uninstall.uninstall(conn, drop_jobs=True)
    for each in sessions:
        each.join(PATIENCE)
    assert len(ends) == len(sessions)
    assert not [each for each in ends if isinstance(each, psycopg.errors.DeadlockDetected)], ends
    with psycopg.connect(bare_dsn) as conn:
        assert value(conn, "select count(*) from pg_class where relname ~ '^eram_'") == 0
