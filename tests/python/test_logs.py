"""What the programs log: as text or JSON, and of which job."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import signal
import sys
import uuid
from datetime import UTC, datetime

import log_jobs
import pytest
import sample_jobs
from helpers import wait_for_state

from eram import logs
from eram._jobs import current
from eram._jobs.job import Job

ROW = (12, 3, "app.jobs:send", b"\1{}", b"\1{}", [], "mail", 0, 2, 20, 0, 0, 0, None)
OF_JOB = {"job_id": 12, "run": 3, "attempt": 2, "handler": "app.jobs:send", "queue": "mail"}


@pytest.fixture
def in_job():
    """Call a function as a handler would."""

    def call(function, *args, **options):
        context = contextvars.copy_context()
        context.run(current.running.set, Job(ROW))
        return context.run(function, *args, **options)

    return call


@pytest.fixture
def log():
    """Log one record, and return the lines that a formatter makes of it."""
    logger = logging.getLogger("app.mail")
    logger.setLevel(logging.DEBUG)
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    def write(formatter, message, *args, level=logging.INFO, is_filtered=True, **options):
        handler = Lines()
        handler.setFormatter(formatter)
        if is_filtered:
            handler.addFilter(logs.JobFilter())
        logger.addHandler(handler)
        try:
            logger.log(level, message, *args, **options)
        finally:
            logger.removeHandler(handler)
        return lines.pop()

    return write


def fields(line):
    assert "\n" not in line
    return json.loads(line, parse_constant=pytest.fail)


def test_json_says_when_what_and_where(log):
    before = datetime.now(UTC)
    found = fields(log(logs.JsonFormatter(), "sent %s to %r", 2, "łódź", level=logging.WARNING))
    assert found.pop("process") > 0
    at = found.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert abs((datetime.fromisoformat(at) - before).total_seconds()) < 60
    assert found == {"level": "warning", "logger": "app.mail", "message": "sent 2 to 'łódź'"}


def test_json_says_which_job(log, in_job):
    found = fields(in_job(log, logs.JsonFormatter(), "sent"))
    assert {name: found.get(name) for name in OF_JOB} == OF_JOB


def test_json_has_what_was_given_as_extra(log):
    extra = {"to": "ada", "sizes": [1, {"a": None}], "level": "mine", "attempt": 7}
    found = fields(log(logs.JsonFormatter(), "sent", extra=extra))
    assert (found["to"], found["sizes"]) == ("ada", [1, {"a": None}])
    assert (found["level"], found["level_"], found["attempt"]) == ("info", "mine", 7)


class Unspeakable:
    def __str__(self):
        raise ValueError("no words")


def test_json_makes_text_of_what_is_no_json(log):
    key = uuid.uuid4()
    extra = {"key": key, "nan": float("nan"), "odd": Unspeakable(), "half": "\ud800"}
    found = fields(log(logs.JsonFormatter(), "sent", extra=extra))
    assert (found["key"], found["nan"]) == (str(key), "nan")
    assert (found["odd"], found["half"]) == ("(a Unspeakable that cannot be shown)", "\ud800")


class Restless(dict):
    """As one that another thread changes."""

    def items(self):
        raise RuntimeError("dictionary changed size during iteration")

    def __str__(self):
        return "restless"


def test_json_has_whatever_was_given_as_extra(log):
    extra = {1: "a", "1": "b", "changing": Restless(a=1)}
    found = fields(log(logs.JsonFormatter(), "sent", extra=extra))
    assert (found["1"], found["1_"], found["changing"]) == ("a", "b", "restless")


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("sent %d", ["x"], "sent %d (with arguments that do not fit: TypeError: %d format"),
        ("sent %s", [Unspeakable()], "sent %s (with arguments that do not fit: ValueError: no w"),
        (Unspeakable(), [], "(a Unspeakable that cannot be shown) (with arguments that do not"),
    ],
)
def test_json_has_a_message_that_cannot_be_made(message, args, expected):
    # Not logged: pytest looks at what is, and wants to know it.
    record = logging.makeLogRecord({"msg": message, "args": tuple(args)})
    found = fields(logs.JsonFormatter().format(record))
    assert found["message"].startswith(expected)


def test_json_has_an_exception_as_text(log):
    error = ValueError("bad\naddress")
    found = fields(log(logs.JsonFormatter(), "it failed", exc_info=error, stack_info=True))
    assert found["exception"] == "ValueError: bad\naddress"
    assert found["stack"].startswith("Stack (most recent call last):\n")


def test_text_names_the_job_only_where_there_is_one(log, in_job):
    assert log(logs.TextFormatter(), "sent").endswith(" INFO    app.mail: sent")
    line = in_job(log, logs.TextFormatter(), "sent")
    assert line.endswith(" INFO    app.mail: sent [job 12, attempt 2]")


def test_text_puts_the_job_before_the_exception(log, in_job):
    text = in_job(log, logs.TextFormatter(), "it failed", exc_info=ValueError("bad address"))
    assert text.endswith("it failed [job 12, attempt 2]\nValueError: bad address")


def test_without_the_filter_nothing_is_said_of_the_job(log, in_job):
    line = in_job(log, logs.TextFormatter(), "sent", is_filtered=False)
    assert line.endswith(" app.mail: sent")
    found = fields(in_job(log, logs.JsonFormatter(), "sent", is_filtered=False))
    assert not found.keys() & OF_JOB.keys()


def test_formats_of_ones_own_may_name_the_job(log, in_job):
    formatter = logging.Formatter("%(job_id)s %(handler)s %(message)s")
    assert log(formatter, "sent") == "None None sent"
    assert in_job(log, formatter, "sent") == "12 app.jobs:send sent"


def test_what_a_record_says_itself_of_a_job_stays(log, in_job):
    other = {"job_id": 99}
    found = fields(in_job(log, logs.JsonFormatter(), "looked at it", extra=other))
    assert {name: found[name] for name in OF_JOB if name in found} == other
    assert in_job(log, logs.TextFormatter(), "looked at it", extra=other).endswith("at it")
    same = fields(in_job(log, logs.JsonFormatter(), "here", extra={"job_id": 12}))
    assert {name: same[name] for name in OF_JOB} == OF_JOB


def test_configuring_leaves_alone_what_is_set_up(monkeypatch):
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    logs.configure("debug", "json")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    assert isinstance(handler.formatter, logs.JsonFormatter)
    assert root.level == logging.DEBUG
    logs.configure("info")
    assert root.handlers == [handler]
    assert root.level == logging.DEBUG
    assert handler.stream is sys.stderr


@pytest.fixture
def run_and_read(conn, dsn, run_program):
    """Run jobs in a worker program; return its log."""

    def run(enqueue, *arguments):
        program = run_program("--dsn", dsn, "--allow", "log_jobs", *arguments)
        program.wait_for_log("registered")
        for answer in enqueue():
            wait_for_state(conn, answer.id, "completed")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        return program.log.splitlines()

    return run


@pytest.mark.parametrize("handler", [log_jobs.mail, log_jobs.mail_async])
def test_all_that_a_handler_logs_is_of_its_job(conn, run_and_read, handler):
    answers = []

    def enqueue():
        answers.append(handler.enqueue(conn, to="ada"))
        return answers

    lines = [json.loads(line) for line in run_and_read(enqueue, "--log-format", "json")]
    by_logger = {line["logger"]: line for line in lines}
    assert by_logger["smtp.client"]["message"] == "sent to ada"
    expected = {
        "job_id": answers[0].id,
        "run": 1,
        "attempt": 1,
        "handler": handler.path,
        "queue": "default",
    }
    for name in ("smtp.client", "shop.mail"):
        assert {key: by_logger[name][key] for key in expected} == expected
    assert all("job_id" not in line for line in lines if line["logger"].startswith("eram."))
    if handler is log_jobs.mail:
        assert (by_logger["shop.mail"]["to"], by_logger["shop.mail"]["size"]) == ("ada", 3)


def test_text_of_a_handler(conn, run_and_read):
    answers = []

    def enqueue():
        answers.extend([log_jobs.mail.enqueue(conn, to="ada"), log_jobs.fail.enqueue(conn)])
        return answers

    lines = run_and_read(enqueue)
    mail, fail = (answer.id for answer in answers)
    endings = [line.partition(": ")[2] for line in lines]
    assert f"sending [job {mail}, attempt 1]" in endings
    assert f"sent to ada [job {mail}, attempt 1]" in endings
    at = endings.index(f"it went wrong [job {fail}, attempt 1]")
    assert lines[at + 1] == "Traceback (most recent call last):"


def test_jobs_that_end_well_are_no_news(conn, dsn, run_program):
    program = run_program("--dsn", dsn, "--allow", "sample_jobs", "--log-format", "json")
    program.wait_for_log("registered")
    for _ in range(3):
        wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    messages = [json.loads(line)["message"] for line in program.log.splitlines()]
    assert [re.sub(r"\S*:\d+", "w", message) for message in messages] == [
        "worker w registered as 1",
        messages[1],
        "stopping: 0 jobs have 15.0 seconds to end",
        "stopped",
    ]
    assert messages[1].startswith("finished jobs are kept: ")


def test_tick_logs_likewise(dsn, run_program):
    program = run_program("--once", "--dsn", dsn, "--log-format", "json", module="eram.tick")
    assert program.wait() == 0
    assert [json.loads(line)["logger"] for line in program.log.splitlines()] == ["eram.tick"]
