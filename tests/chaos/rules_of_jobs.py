"""Rules of jobs: each is there as its producer was told, and ends as it should."""

from __future__ import annotations

import math
from collections.abc import Iterator

from chaos.history import ENDED, History, JobRow, Run


def nothing_is_lost(history: History) -> Iterator[str]:
    """What was acknowledged is there, under the id that was told."""
    for call in history.calls:
        if call.came_to != "committed":
            continue
        for token, (job, is_duplicate) in zip(call.tokens, call.answers, strict=True):
            row = history.job_rows.get(job)
            if row is None:
                what = "its original" if is_duplicate else "it"
                yield f"job {job} was acknowledged to call {call.name}, and {what} is not there"
            elif not is_duplicate and row.token != token:
                yield f"job {job} is not {token}, as call {call.name} was told, but {row.token}"


def nothing_is_there_that_was_refused(history: History) -> Iterator[str]:
    """What was rolled back or refused, or is a duplicate, is not there."""
    for call in history.calls:
        if call.came_to == "rolled back":
            refused = call.tokens
        else:
            pairs = zip(call.tokens, call.answers, strict=False)
            refused = tuple(token for token, (_, is_duplicate) in pairs if is_duplicate)
        for token in refused:
            for row in history.rows_by_token.get(token, ()):
                yield f"job {row.id} ({token}) is there, but call {call.name} did not store it"


def calls_are_whole(history: History) -> Iterator[str]:
    """The jobs of a call are there together, and with the row of the same transaction."""
    for call in history.calls:
        if call.key is not None:  # it may have been a duplicate
            continue
        there = [token for token in call.tokens if token in history.rows_by_token]
        if len(there) not in {0, len(call.tokens)}:
            yield f"call {call.name} is there in part: {', '.join(there)}"
        elif call.is_noted and bool(there) != (call.name in history.final.committed):
            has, has_not = ("its jobs", "its row") if there else ("its row", "its jobs")
            yield f"call {call.name} has left {has}, and not {has_not}"


def nothing_is_stored_twice(history: History) -> Iterator[str]:
    for token, rows in history.rows_by_token.items():
        if len(rows) > 1 and rows[0].schedule is None:
            ids = ", ".join(str(row.id) for row in rows)
            yield f"{token} is there {len(rows)} times: jobs {ids}"
    known = {token for call in history.calls for token in call.tokens}
    for row in history.final.jobs:
        if row.schedule is None and row.token not in known:
            yield f"nobody has enqueued job {row.id} ({row.token})"


def nothing_is_stuck(history: History) -> Iterator[str]:
    """After the harm, every job ends that was not removed."""
    for row in history.final.jobs:
        if row.state not in ENDED and row.removed_by != "delete":
            yield f"job {row.id} ({row.handler}) is {row.state} after run {row.run}: {row.why}"


def ends_have_reasons(history: History) -> Iterator[str]:
    """A job is completed by a run that returned, and given up or called off for a reason."""
    for row in history.final.jobs:
        last = _last_run(history, row)
        match row.state:
            case "completed" if last is None:
                yield f"job {row.id} was completed by run {row.run}, which never began"
            case "completed" if last.how != "returned":
                yield f"job {row.id} was completed by run {row.run}, which has not returned"
            case "discarded" if row.attempt < row.max_attempts:
                if last is None or last.how != "discarded":
                    used = f"{row.attempt} of {row.max_attempts} attempts"
                    yield f"job {row.id} was discarded after {used}"
            case "cancelled" if not _is_called_off(history, row, last):
                yield f"job {row.id} was cancelled by nobody"


def _last_run(history: History, row: JobRow) -> Run | None:
    runs = history.runs_by_job.get(row.id, ())
    return next((run for run in runs if run.number == row.run), None)


def _is_called_off(history: History, row: JobRow, last: Run | None) -> bool:
    if last is not None and last.how == "cancelled":
        return True
    return history.may_have("cancel", row.id, -math.inf, math.inf)


def what_was_told_holds(history: History) -> Iterator[str]:
    """How a job ended stays so when a worker was told, unless an administrator retries it."""
    for told in history.told:
        row = history.job_rows.get(told.job)
        if row is None:
            yield f"job {told.job} was {told.state} by run {told.run}, and is not there"
        elif (row.state, row.run) != (told.state, told.run) and not history.may_have(
            "retry", told.job, _begin(history, told.job, told.run), math.inf
        ):
            yield (
                f"a worker was told that job {told.job} is {told.state} by run {told.run},"
                f" and it is {row.state} by run {row.run}"
            )


def _begin(history: History, job: int, number: int) -> float:
    runs = history.runs_by_job.get(job, ())
    return next((run.begun_at for run in runs if run.number == number), -math.inf)
