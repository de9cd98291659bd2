"""The jobs of EramJS's example, as Python has them."""

from __future__ import annotations

import threading
from typing import ClassVar

import psycopg

import eram
from eram.drivers.psycopg import PsycopgDriver


@eram.job
def minute_worker(job):
    return {"args": job.args}


@eram.job
def hourly_worker(job, custom=None):
    return {"custom": custom}


@eram.job(queue="default", max_attempts=20, priority=0, tags=[], unique={"period": 30})
def email_user_job(job, email):
    return {"sent_to": email, "priority": job.priority, "thread": threading.current_thread().name}


@eram.job
def insert(job, session, value):
    """Insert a row by the driver's own session."""
    session.execute("insert into effects values (%s)", (value,))
    return {"session": type(session).__name__, "thread": threading.current_thread().name}


class CustomDriver(PsycopgDriver):
    """A driver of one's own, which notes what it is asked for."""

    made: ClassVar[list[CustomDriver]] = []

    def __init__(self, config):
        super().__init__({"dsn": config["url"]})
        self.thread = threading.current_thread().name
        self.calls = []
        self.made.append(self)

    def run_in_transaction(self, fn):
        self.calls.append("run_in_transaction")
        return super().run_in_transaction(fn)

    def enqueue(self, session, document):
        self.calls.append(("enqueue", isinstance(session, psycopg.Connection)))
        return super().enqueue(session, document)


def driver(config):
    return CustomDriver(config)
