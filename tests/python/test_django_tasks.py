"""The backend for Django's tasks."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone
from helpers import job_of, wait_for_state
from test_django import DRIVER, _set_up, _site, effects

pytest_plugins: list[str] = []
__all__ = ["_set_up", "_site"]

ALLOW = ["eram.django_tasks"]


@pytest.fixture
def tasks():
    # It can be imported once Django is set up.
    from django_site import tasks

    return tasks


@pytest.fixture
def start(start_worker):
    return lambda: start_worker(allow=ALLOW, driver=DRIVER, queues={"default": 2, "mail": 1})


def test_task_runs_in_the_transaction_that_completes_it(conn, start, tasks):
    start()
    result = tasks.add.enqueue(7, doubled=True)
    assert (result.status, result.args, result.kwargs) == ("READY", [7], {"doubled": True})
    wait_for_state(conn, int(result.id), "completed")
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == ("SUCCESSFUL", {"value": 7}, 1)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert effects(conn) == [14]
    written_by, completed_by = conn.execute(
        "select (select xmin from effects), (select xmin from eram_finished_jobs)"
    ).fetchone()
    assert written_by == completed_by


def test_enqueue_belongs_to_the_transaction(conn, tasks):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dropped = tasks.add.enqueue(1)
        raise ZeroDivisionError
    assert job_of(conn, int(dropped.id)) == {}
    from django_tasks.exceptions import TaskResultDoesNotExist

    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(dropped.id)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("no number")
    for number in ("\u0663", str(2**63), "9" * 5000):
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(number)


def test_options_of_a_task_are_those_of_its_job(conn, tasks):
    job = job_of(conn, int(tasks.urgent.enqueue().id))
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("mail", 0, 2)
    run_after = timezone.now() + timedelta(hours=1)
    later = tasks.urgent.using(priority=-100, run_after=run_after).enqueue()
    job = job_of(conn, int(later.id))
    assert (job["priority"], job["state"], job["scheduled_at"]) == (9, "scheduled", run_after)


def test_task_with_a_context(conn, start, tasks):
    start()
    result = tasks.describe.enqueue("x")
    wait_for_state(conn, int(result.id), "completed")
    found = tasks.describe.get_result(result.id).return_value
    assert found == {"word": "x", "attempt": 1, "id": result.id}


def test_async_task(conn, start, tasks):
    start()

    async def enqueue():
        try:
            return await tasks.add_async.aenqueue(5)
        finally:
            await sync_to_async(connections.close_all)()

    result = asyncio.run(enqueue())
    wait_for_state(conn, int(result.id), "completed")
    assert effects(conn) == [5]


def test_task_that_fails(conn, start, tasks):
    start()
    result = tasks.fail.enqueue()
    wait_for_state(conn, int(result.id), "discarded")
    result.refresh()
    assert (result.status, result.attempts) == ("FAILED", 2)
    assert [each.exception_class for each in result.errors] == [LookupError, LookupError]
    assert "nothing there" in result.errors[0].traceback


def test_task_that_fails_by_an_error_of_its_own(conn, start, tasks):
    start()
    result = tasks.fail_in_its_own_way.enqueue()
    wait_for_state(conn, int(result.id), "discarded")
    result.refresh()
    assert {each.exception_class for each in result.errors} == {tasks.OrderError}


def test_nothing_but_tasks_is_run(conn, start, tasks):
    start()
    args = '{"task": "django_site.tasks.plain", "args": [], "kwargs": {}, "backend": "default"}'
    job_id = conn.execute(
        "select eram_enqueue_job('eram.django_tasks:run', %s, max_attempts => 1)", (args,)
    ).fetchone()[0]
    job = wait_for_state(conn, job_id, "discarded")
    assert "is no task of Django" in job["errors"][0]["error"]
