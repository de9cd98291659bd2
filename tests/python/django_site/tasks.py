"""Tasks of Django, for the tests."""

from __future__ import annotations

from django_tasks import task

from .models import Effect


@task
def add(value, *, doubled=False):
    Effect.objects.create(value=2 * value if doubled else value)
    return {"value": value}


@task(queue_name="mail", priority=100)
def urgent():
    return "at once"


@task(takes_context=True)
def describe(context, word):
    return {"word": word, "attempt": context.attempt, "id": context.task_result.id}


@task
async def add_async(value):
    await Effect.objects.acreate(value=value)
    return value


@task
def fail():
    raise LookupError("nothing there")


class OrderError(Exception):
    """One of the site's own."""


@task
def fail_in_its_own_way():
    raise OrderError("no\nsuch order") from LookupError("nothing there")


def plain():
    return "not a task"
