"""What runs at top level runs with the rights of who runs it: the owner's alone."""

from __future__ import annotations

import psycopg
import pytest

from .command_helpers import set_role
from .helpers import column, contents, rows
from .schedule_helpers import call, entry, handed_out, make_due, schedule_sql


def test_commands_for_the_top_level_are_for_the_owner_alone(home, owner, open_as):
    schedule_sql(owner, "vacuum", "vacuum done", is_top_level=True, timeout="5 minutes")
    call(owner, "eram_schedule_maintenance", task="reindexer")
    make_due(owner, "vacuum", "eram:reindexer")
    before = contents(owner)
    for dsn in (home.admin, home.member, home.worker):
        for arguments in ((), (10,), (10, True)):
            assert handed_out(open_as(dsn), *arguments) == []
    for dsn in (home.admin, home.member):
        ticker = open_as(dsn)
        set_role(ticker, home.owner_role)
        assert handed_out(ticker, 10) == []
    assert handed_out(owner, 10, False) == []
    assert contents(owner) == before

    ticker = open_as(home.admin)
    set_role(ticker, home.owner_role, "session authorization")
    given = handed_out(ticker, 10)
    assert [one.schedule for one in given].count("vacuum") == 1
    assert {one.schedule for one in given} == {"vacuum", "eram:reindexer"}
    (vacuum,) = (one for one in given if one.schedule == "vacuum")
    assert (vacuum.command, vacuum.timeout.total_seconds()) == ("vacuum done", 300)


@pytest.mark.parametrize("arguments", [(), (10,)])
def test_the_owner_runs_commands_at_the_top_level(home, owner, arguments):
    schedule_sql(owner, "index", "create index concurrently on done (what)", is_top_level=True)
    schedule_sql(owner, "bad", "vacuum nothing_of_the_kind", is_top_level=True)
    make_due(owner, "index", "bad")
    for given in handed_out(owner, *arguments):
        error = None
        try:
            owner.execute(given.command)
        except psycopg.Error as exc:
            error = str(exc)
        assert call(owner, "eram_finish_command", run_id=given.run_id, error=error) is True
        assert call(owner, "eram_finish_command", run_id=given.run_id, error=error) is False
    names = "select indexdef from pg_indexes where tablename = 'done'"
    assert len(column(owner, names)) == 1
    owner.execute("drop index done_what_idx")
    assert entry(owner, "index").last_error is None
    assert "nothing_of_the_kind" in entry(owner, "bad").last_error
    assert column(owner, "select id from eram_schedule_runs") == []


def test_reindexing_by_the_owner(owner):
    call(owner, "eram_schedule_maintenance", task="reindexer", options={"timeout": 20})
    indexes = """
        select relname, pg_relation_filenode(oid)
        from pg_class
        where relname in ('eram_jobs_args_index', 'eram_jobs_meta_index')
        order by relname
    """
    before = [tuple(index) for index in rows(owner, indexes)]
    make_due(owner, "eram:reindexer")
    seen = 0
    while given := handed_out(owner, 10):
        for one in given:
            assert one.timeout.total_seconds() == 20
            owner.execute(one.command)
            call(owner, "eram_finish_command", run_id=one.run_id)
            seen += 1
    assert seen == 2
    after = [tuple(index) for index in rows(owner, indexes)]
    assert [index[0] for index in after] == [index[0] for index in before]
    assert not set(after) & set(before)
    assert entry(owner, "eram:reindexer").last_error is None
