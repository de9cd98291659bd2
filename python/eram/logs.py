"""How the programs log, for whoever wants the same in a process of their own.

    import logging
    from eram.logs import JobFilter, JsonFormatter

    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level="INFO", handlers=[handler])

which is what `configure(log_format="json")` does. While a handler of a job runs, `JobFilter` notes
on every record which job that is, whoever logs it: the handler, a library that it calls, eram.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Container
from datetime import UTC, datetime
from typing import Any

from eram._base import wording
from eram._jobs.current import current_job

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s%(job_note)s"
# Where several processes write into one log.
TEXT_FORMAT_OF_MANY = (
    f"%(asctime)s %(levelname)-7s [%(process)d] {TEXT_FORMAT.partition('-7s ')[2]}"
)

# What a record says of the job, in this order, where it is known.
JOB_FIELDS = ("job_id", "run", "attempt", "handler", "queue")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    *("message", "asctime", "taskName", "job_note"),
    *JOB_FIELDS,
}


class JobFilter(logging.Filter):
    """Notes on each record which job it is about; it lets all of them pass.

    A record gets the attributes `job_id`, `run`, `attempt`, `handler` and `queue` of
    `eram.current_job()`, each of them None where no handler runs, unless it has it already (by
    `extra`); and `job_note`, for formats of one's own: such as " [job 12, attempt 1]", or empty.

    Add it to a logging handler, not to a logger, whose filters do not see the records of loggers
    below it. With a `QueueHandler` it belongs there, because the record's thread is asked.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the job, and let the record pass."""
        job = current_job()
        given = record.__dict__
        if job is None:
            for name in JOB_FIELDS:
                given.setdefault(name, None)
            given["job_note"] = ""
            return True
        given.setdefault("job_id", job.id)
        # What a record that names another job does not say is not known of that one.
        is_ours = given["job_id"] == job.id
        for name in JOB_FIELDS[1:]:
            given.setdefault(name, getattr(job, name) if is_ours else None)
        given["job_note"] = f" [job {job.id}, attempt {job.attempt}]" if is_ours else ""
        return True


class TextFormatter(logging.Formatter):
    """Writes a line of text for each record, and its traceback below.

    Args:
        text_format: as `logging.Formatter` has it; `%(job_note)s` says which job is running.
    """

    def __init__(self, text_format: str = TEXT_FORMAT) -> None:
        # Nothing is said of the job where no JobFilter has seen the record.
        super().__init__(text_format, defaults={"job_note": ""})


class JsonFormatter(logging.Formatter):
    """Writes each record as one JSON object on one line.

    It has `time` (ISO 8601, UTC), `level`, `logger`, `message` and `process`; `job_id`, `run`,
    `attempt`, `handler` and `queue` where they are known; `exception` and `stack` where there is
    one, as text; and what was given as `extra`, as JSON where it can be, else as text. Of these one
    that has the name of something else has `_` behind it.

    No record is lost for what is in it: a message that cannot be made of its arguments is there
    without them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        fields: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "process": record.process,
        }
        for name in JOB_FIELDS:
            if (value := getattr(record, name, None)) is not None:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                fields[_free(str(name), fields)] = value
        pairs = (f"{json.dumps(name)}: {_encode(value)}" for name, value in fields.items())
        return "{" + ", ".join(pairs) + "}"


def configure(level: str = "info", log_format: str = "text", *, of_many: bool = False) -> None:
    """Log to stderr as the programs do, unless logging is set up already.

    Args:
        level: `debug`, `info`, `warning` or `error`, for all loggers.
        log_format: `text`, or `json` for one object on each line.
        of_many: whether other processes write there too, so that text must say which one it is.
    """
    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter(TEXT_FORMAT_OF_MANY if of_many else TEXT_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _time(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    # Code of whoever logged it, here and below.
    except Exception as error:
        said = _text(record.msg)
        return f"{said} (with arguments that do not fit: {wording.in_words(error)})"


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _encode(value: Any) -> str:
    """Make JSON of a value; a line of the log must not be lost because of it."""
    try:
        return json.dumps(value, allow_nan=False)
    except Exception:
        return json.dumps(_text(value))


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown)"
