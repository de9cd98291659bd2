"""A backend for Django's tasks (`django.tasks`, or the package django-tasks): they become jobs.

    TASKS = {"default": {"BACKEND": "eram.django_tasks.EramBackend", "OPTIONS": {"timeout": 60}}}

A worker with the driver "django", and with `eram.django_tasks` among the modules that it allows,
runs each in the transaction that completes it.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone
from django.utils.module_loading import import_string

try:
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
    from django.tasks.exceptions import TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started

from eram._base import sessions, statements
from eram._jobs import enqueueing
from eram._jobs.decorator import job as as_handler
from eram._jobs.job import Job

# Django's priorities go up to the most urgent one, eram's go down to it.
MAX_DJANGO_PRIORITY = 100
DJANGO_PRIORITIES = 200
MAX_PRIORITY = 9
MAX_JOB_ID = 2**63 - 1

_STATUS = {
    "executing": TaskResultStatus.RUNNING,
    "completed": TaskResultStatus.SUCCESSFUL,
    "discarded": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}


class EramBackend(BaseTaskBackend):  # type: ignore[misc]
    """Enqueues tasks as jobs, over the connection of Django and in its transaction.

    `OPTIONS` are options of an enqueue, such as `max_attempts` and `timeout`, and `using`, which is
    the alias of the database.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._job_options = dict(self.options)
        self._using = self._job_options.pop("using", DEFAULT_DB_ALIAS)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Enqueue a task; it exists once the transaction that surrounds this is committed."""
        self.validate_task(task)
        enqueued = enqueueing.enqueue(
            connections[self._using],
            run,
            {
                "task": task.module_path,
                "args": list(args),
                "kwargs": dict(kwargs),
                "backend": self.alias,
            },
            **{
                **self._job_options,
                "queue": task.queue_name,
                "priority": _priority(task.priority),
                **({"scheduled_at": task.run_after} if task.run_after else {}),
            },
        )
        result = _made(
            task.using(backend=self.alias),
            enqueued.id,
            TaskResultStatus.READY,
            {"args": list(args), "kwargs": dict(kwargs)},
            enqueued_at=timezone.now(),
        )
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return what is known of a task, for as long as its job is kept.

        The role needs the right to read jobs.

        Raises:
            TaskResultDoesNotExist: there is no such job, or none any more.
        """
        rows: list[tuple[Any, ...]] = []
        if re.fullmatch("[0-9]{1,19}", result_id) and int(result_id) <= MAX_JOB_ID:
            parameters = (result_id, run.path)
            rows = sessions.execute(connections[self._using], statements.DJANGO_TASK, parameters)
        if not rows:
            raise TaskResultDoesNotExist(result_id)
        args, state, enqueued_at, attempted_at, finished_at, result, errors, worker = rows[0]
        document = json.loads(args)
        failures = json.loads(errors or "[]")
        made = _made(
            import_string(document["task"]).using(backend=self.alias),
            int(result_id),
            _STATUS.get(state, TaskResultStatus.READY),
            document,
            enqueued_at=enqueued_at,
            started_at=attempted_at,
            last_attempted_at=attempted_at,
            finished_at=finished_at,
            errors=[_error(each) for each in failures],
            worker_ids=[str(each.get("worker")) for each in failures]
            + ([worker] if state in {"executing", "completed"} else []),
        )
        if result is not None:
            object.__setattr__(made, "_return_value", json.loads(result))
        return made


@as_handler
def run(job: Job, task: str, args: list[Any], kwargs: dict[str, Any], backend: str) -> Any:
    """Run a task of Django.

    Raises:
        TypeError: the path is that of something else, which nobody may run by it.
    """
    found = import_string(task)
    if not isinstance(found, Task):
        raise TypeError(f'"{task}" is no task of Django')
    chosen = found.using(backend=backend)
    sender = type(chosen.get_backend())
    result = _made(
        chosen,
        job.id,
        TaskResultStatus.RUNNING,
        {"args": args, "kwargs": kwargs},
        enqueued_at=job.inserted_at,
        started_at=job.attempted_at,
        last_attempted_at=job.attempted_at,
        worker_ids=[""] * job.attempt,
    )
    task_started.send(sender, task_result=result)
    context = [TaskContext(task_result=result)] if chosen.takes_context else []
    status = TaskResultStatus.FAILED
    try:
        value = chosen.call(*context, *args, **kwargs)
        object.__setattr__(result, "_return_value", value)
        status = TaskResultStatus.SUCCESSFUL
    finally:
        object.__setattr__(result, "status", status)
        object.__setattr__(result, "finished_at", timezone.now())
        task_finished.send(sender, task_result=result)
    return value


def _made(task: Any, job_id: int, status: Any, document: Mapping[str, Any], **others: Any) -> Any:
    times = dict.fromkeys(("started_at", "last_attempted_at", "finished_at"))
    return TaskResult(
        task=task,
        id=str(job_id),
        status=status,
        args=document["args"],
        kwargs=document["kwargs"],
        backend=task.backend,
        **{**times, "errors": [], "worker_ids": [], **others},
    )


def _priority(priority: int) -> int:
    return round((MAX_DJANGO_PRIORITY - priority) * MAX_PRIORITY / DJANGO_PRIORITIES)


def _error(entry: Mapping[str, Any]) -> Any:
    kind = str(entry.get("type"))
    trace = str(entry.get("traceback") or entry.get("error") or "")
    # A traceback ends with the error, and says the module of what is none of Python's.
    if found := re.findall(rf"^((?:\w+\.)+{re.escape(kind)})(?::|$)", trace, re.MULTILINE):
        path = found[-1]
    else:
        # Where it is none of Python's either it is a word of eram's own, such as "timeout".
        path = f"builtins.{kind if hasattr(builtins, kind) else 'Exception'}"
    return TaskError(exception_class_path=path, traceback=trace)
