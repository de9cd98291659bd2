"""Rules of schedules: a job for each occurrence, and one only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.history import History


def occurrences_are_enqueued_once(history: History) -> Iterator[str]:
    jobs = Counter(
        (row.schedule, row.scheduled_for) for row in history.final.jobs if row.schedule is not None
    )
    due = {
        (name, each.first + number * each.apart)
        for name, each in history.final.schedules.items()
        for number in range((each.after_last - each.first) // each.apart)
    }
    for name, at in sorted(due - jobs.keys()):
        yield f"there is no job for {name} at {at}"
    for occurrence, count in jobs.items():
        what = "{} at {}".format(*occurrence)
        if occurrence not in due:
            yield f"there is a job for {what}, which was not due"
        elif count > 1:
            yield f"there are {count} jobs for {what}"
