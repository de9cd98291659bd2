"""Commands that nobody reports, and reports that fit no command."""

from __future__ import annotations

import pytest

from .command_helpers import DONE, MARK, RUNS
from .helpers import column, value, wait_until
from .schedule_helpers import call, entry, handed_out, make_due, schedule_sql, tick


@pytest.mark.parametrize("is_top_level", [False, True])
def test_a_command_that_nobody_reports(owner, is_top_level):
    schedule_sql(owner, "lost", MARK.format("lost"), is_top_level=is_top_level, timeout="1 second")
    make_due(owner, "lost")
    (given,) = handed_out(owner, 10)
    age = "update eram_schedule_runs set taken_at = now() - %s::interval"
    if not is_top_level:
        owner.execute(age, ["50 seconds"])
    tick(owner, 0)
    assert value(owner, RUNS) == 1
    make_due(owner, "lost")
    assert handed_out(owner, 10) == []

    owner.execute(age, ["65 seconds"])
    tick(owner, 0)
    assert value(owner, RUNS) == 0
    assert "was not reported" in entry(owner, "lost").last_error
    # Who comes too late finds it over.
    assert call(owner, "eram_finish_command", run_id=given.run_id) is False
    assert call(owner, "eram_run_command", run_id=given.run_id) is None
    assert column(owner, DONE) == []
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    assert entry(owner, "lost").last_error is None


def test_what_was_taken_before_the_server_started_is_lost(owner):
    schedule_sql(owner, "lost", "vacuum", is_top_level=True, timeout="20 days")
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    owner.execute("update eram_schedule_runs set taken_at = '2020-01-01'")
    tick(owner, 0)
    assert "was not reported" in entry(owner, "lost").last_error


def test_a_top_level_command_is_lost_with_the_session_that_began_it(owner, open_as):
    runner = open_as()
    schedule_sql(owner, "lost", "vacuum", is_top_level=True, timeout="20 days")
    make_due(owner, "lost")
    (given,) = handed_out(owner, 10)
    assert call(runner, "eram_begin_command", run_id=given.run_id) is True
    owner.execute("update eram_schedule_runs set taken_at = '2020-01-01', begun_at = '2020-01-01'")
    tick(owner, 0)
    assert value(owner, RUNS) == 1
    runner.close()
    wait_until(lambda: tick(owner, 0) and value(owner, RUNS) == 0, "its end is noticed")
    assert "was not reported" in entry(owner, "lost").last_error
    assert call(owner, "eram_begin_command", run_id=given.run_id) is False


def test_of_a_lost_command_only_those_hear_who_may_run_it(home, owner, open_as):
    schedule_sql(owner, "lost", MARK.format("lost"))
    make_due(owner, "lost")
    assert len(handed_out(owner, 10)) == 1
    owner.execute("update eram_schedule_runs set taken_at = now() - interval '5 hours'")
    worker = open_as(home.worker)
    notices = []
    worker.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    tick(worker)
    assert notices == []
    assert value(owner, RUNS) == 1


def test_a_report_that_fits_nothing(owner):
    schedule_sql(owner, "due", MARK.format("due"), is_top_level=True)
    call(owner, "eram_run_schedule", name="due")
    (run_id,) = column(owner, "select id from eram_schedule_runs")
    # Not yet taken, unknown, null.
    for unknown in (run_id, 4711, -1, None):
        assert call(owner, "eram_finish_command", run_id=unknown, error="x") is False
        assert call(owner, "eram_run_command", run_id=unknown) is None
    assert value(owner, RUNS) == 1
    assert entry(owner, "due").last_error is None


def test_a_report_of_any_length(owner):
    schedule_sql(owner, "due", "vacuum", is_top_level=True)
    call(owner, "eram_run_schedule", name="due")
    (given,) = handed_out(owner, 10)
    error = "x" * 1_000_000
    assert call(owner, "eram_finish_command", run_id=given.run_id, error=error) is True
    assert len(entry(owner, "due").last_error) == 10000
