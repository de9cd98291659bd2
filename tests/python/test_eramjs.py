"""EramJS's way of working: each line of its table in the design, with its own configuration."""

from __future__ import annotations

import json
import threading

import eramjs_jobs
import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of, schedule_of, value, wait_for_state

import eram

# The example of its README, but for the driver.
CONFIG = {
    "queues": {
        "default": {"limit": 10},
    },
    "prune": {
        "interval": 30_000,
        "limit": 10_000,
        "max_age": 60,
    },
    "lifeline": {
        "interval": 60_000,
        "rescue_after": 3_600_000,
    },
    "reindexer": {
        "schedule": "@midnight",
        "indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"],
        "timeout": 15,
        "timezone": "Etc/UTC",
    },
    "cron": [
        ["* * * * * ", eramjs_jobs.minute_worker],
        ["0 * * * * ", eramjs_jobs.hourly_worker, {"custom": "arg"}],
    ],
}

TOML = """
allow = ["eramjs_jobs"]
cron = [
    ["* * * * * ", "eramjs_jobs:minute_worker"],
    ["0 * * * * ", "eramjs_jobs:hourly_worker", { custom = "arg" }],
]

[queues]
default = { limit = 10 }

[driver]
type = "psycopg"
config = { dsn = "%s" }

[prune]
interval = 30_000
limit = 10_000
max_age = 60

[lifeline]
interval = 60_000
rescue_after = 3_600_000

[reindexer]
schedule = "@midnight"
indexes = ["eram_jobs_args_index", "eram_jobs_meta_index"]
timeout = 15
timezone = "Etc/UTC"
"""

ENTRIES = [
    ("eram:lifeline", "60 seconds"),
    ("eram:prune", "30 seconds"),
    ("eram:recorder", "60 seconds"),
    ("eram:reindexer", "@midnight"),
    ("eramjs_jobs:hourly_worker", "0 * * * *"),
    ("eramjs_jobs:minute_worker", "* * * * *"),
]


def entries(conn):
    rows = conn.execute("select name, job ->> 'handler', schedule from eram_schedules").fetchall()
    return sorted((handler or name, schedule) for name, handler, schedule in rows)


@pytest.fixture
def effects(conn):
    conn.execute("create table effects (value integer)")
    return lambda: [each for (each,) in conn.execute("select value from effects order by value")]


def let_pass(conn, job_id, time):
    """Move the end of a completed job into the past."""
    update = "set finalized_at = finalized_at - %s::interval"
    conn.execute(f"update eram_finished_jobs {update} where job_id = %s", (time, job_id))
    conn.execute(f"update eram_completions {update} where %s = any (ids)", (time, job_id))


def test_start_with_a_dict(conn, dsn, make_engine):
    engine = make_engine({**CONFIG, "driver": {"type": "psycopg", "config": {"dsn": dsn}}})
    engine.start()
    assert entries(conn) == ENTRIES
    answer = engine.enqueue(eramjs_jobs.minute_worker)
    wait_for_state(conn, answer.id, "completed")


def test_start_with_a_toml_file(conn, dsn, make_engine, tmp_path):
    path = tmp_path / "eram.toml"
    path.write_text(TOML % dsn)
    with make_engine(str(path)) as engine:
        assert entries(conn) == ENTRIES
        answer = engine.enqueue("eramjs_jobs:hourly_worker", {"custom": 1})
        assert wait_for_state(conn, answer.id, "completed")["result"] == {"custom": 1}


def test_start_as_a_process(conn, dsn, run_program, tmp_path):
    path = tmp_path / "eram.toml"
    path.write_text(TOML % dsn)
    program = run_program("--config", str(path))
    program.wait_for_log("registered")
    eventually(lambda: entries(conn) == ENTRIES)
    answer = eram.enqueue(conn, "eramjs_jobs:hourly_worker", {"custom": 1})
    assert wait_for_state(conn, answer.id, "completed")["result"] == {"custom": 1}


def test_queues_limit(conn, make_engine):
    engine = make_engine(allow=["sample_jobs"], queues={"default": {"limit": 2}, "mail": 1}).start()
    names = ("one", "two", "three")
    jobs = [engine.enqueue(sample_jobs.wait, {"name": name}) for name in names]

    def begun():
        return [name for name in names if sample_jobs.started[name].is_set()]

    # Which of jobs that were enqueued at the same moment are first is not promised.
    eventually(lambda: len(begun()) == 2)
    (left,) = set(names) - set(begun())
    # The other queue has a limit of its own.
    other = engine.enqueue(sample_jobs.mail, {"to": "x"})
    wait_for_state(conn, other.id, "completed")
    assert job_of(conn, jobs[names.index(left)].id)["state"] == "available"
    sample_jobs.gates[begun()[0]].set()
    assert sample_jobs.started[left].wait(PATIENCE)


def test_prune_interval_limit_max_age(conn, make_engine):
    """What ended longer ago than 60 s goes, not what ended less long ago."""
    engine = make_engine(prune=CONFIG["prune"], allow=["sample_jobs"]).start()
    conn.execute("select eram_pause_schedule('eram:prune')")
    # One after the other: those that end together are kept in one row.
    old = engine.enqueue(sample_jobs.nothing).id
    wait_for_state(conn, old, "completed")
    new = engine.enqueue(sample_jobs.nothing).id
    wait_for_state(conn, new, "completed")
    let_pass(conn, old, "61 seconds")
    let_pass(conn, new, "45 seconds")
    conn.execute("select eram_resume_schedule('eram:prune')")
    entry = schedule_of(conn, "eram:prune")
    assert entry["schedule"] == "30 seconds"
    assert entry["options"] == {"limit": 10_000, "max_age": 60}
    conn.execute("select eram_run_schedule('eram:prune')")
    eventually(lambda: not job_of(conn, old))
    assert job_of(conn, new)["state"] == "completed"


def test_lifeline_interval_rescue_after(conn, make_engine):
    make_engine(lifeline=CONFIG["lifeline"], allow=["sample_jobs"]).start()
    entry = schedule_of(conn, "eram:lifeline")
    assert entry["schedule"] == "60 seconds"
    query = "select extract(epoch from _eram_read_interval('rescue_after', %s))::integer"
    assert value(conn, query, json.dumps(entry["options"]["rescue_after"])) == 3600


def test_reindexer_schedule_indexes_timeout_timezone(conn, make_engine):
    make_engine(reindexer=CONFIG["reindexer"], allow=["sample_jobs"]).start()
    entry = schedule_of(conn, "eram:reindexer")
    assert (entry["schedule"], entry["timezone"]) == ("@midnight", "Etc/UTC")
    assert entry["options"] == {
        "indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"],
        "timeout": 15,
    }
    conn.execute("select eram_run_schedule('eram:reindexer')")
    filenode = "select relfilenode from pg_class where relname = 'eram_jobs_args_index'"
    before = value(conn, filenode)
    eventually(lambda: value(conn, filenode) != before)


def test_cron_with_handlers_and_args(conn, make_engine):
    # Their module need not be allowed besides: they are given.
    make_engine(cron=CONFIG["cron"]).start()
    handlers = {
        "eramjs_jobs:minute_worker": {"args": {}},
        "eramjs_jobs:hourly_worker": {"custom": "arg"},
    }
    for handler, result in handlers.items():
        name = value(conn, "select name from eram_schedules where job ->> 'handler' = %s", handler)
        conn.execute("select eram_run_schedule(%s)", (name,))
        eventually(lambda name=name: schedule_of(conn, name)["last_job_id"])
        job_id = schedule_of(conn, name)["last_job_id"]
        assert wait_for_state(conn, job_id, "completed")["result"] == result


def test_register_holds_for_every_producer(conn, make_engine):
    make_engine(allow=["eramjs_jobs"]).start()
    query = "select eram_enqueue_job('eramjs_jobs:email_user_job', '{\"email\": \"x\"}')"
    job_id = value(conn, query)
    job = job_of(conn, job_id)
    assert (job["queue"], job["max_attempts"], job["priority"], job["tags"]) == (
        "default",
        20,
        0,
        [],
    )
    # Unique for 30 seconds, also when it has ended.
    wait_for_state(conn, job_id, "completed")
    assert value(conn, query) == job_id


def test_enqueue_with_priority(conn, make_engine):
    engine = make_engine(allow=["eramjs_jobs"]).start()
    job = eramjs_jobs.email_user_job.options(priority=1)
    answer = job.enqueue(conn, email="test@example.com")
    result = wait_for_state(conn, answer.id, "completed")["result"]
    assert (result["sent_to"], result["priority"]) == ("test@example.com", 1)
    answer = engine.enqueue(eramjs_jobs.email_user_job, {"email": "other@example.com"}, priority=2)
    assert wait_for_state(conn, answer.id, "completed")["result"]["priority"] == 2


def test_one_thread_per_queue_and_one_for_maintenance(conn, make_engine):
    engine = make_engine(allow=["eramjs_jobs"], queues={"default": 1, "mail": 1}).start()
    names = {thread.name for thread in threading.enumerate()}
    assert {"eram-queue-default", "eram-queue-mail", "eram-maintenance"} <= names
    answer = engine.enqueue(eramjs_jobs.email_user_job, {"email": "x"})
    thread = wait_for_state(conn, answer.id, "completed")["result"]["thread"]
    assert thread == "eram-exec-default-1"


def test_jobs_without_a_path_run_on_the_main_thread(conn, make_engine):
    engine = make_engine()

    @engine.job
    def local(job, to):
        return {"to": to, "thread": threading.current_thread().name}

    answer = engine.enqueue(local, {"to": "x"})
    assert job_of(conn, answer.id)["handler"] == "local"

    @engine.job(name="last one")
    def last(job):
        engine.stop()

    engine.enqueue("last one", priority=9)
    engine.run()
    result = wait_for_state(conn, answer.id, "completed")["result"]
    assert result == {"to": "x", "thread": threading.main_thread().name}


def test_driver_config_is_json(conn, dsn, make_engine, effects):
    engine = make_engine(
        driver={"type": "psycopg", "config": {"dsn": dsn, "application_name": "mine"}},
        allow=["eramjs_jobs"],
    ).start()
    answer = engine.enqueue(eramjs_jobs.insert, {"value": 1})
    wait_for_state(conn, answer.id, "completed")
    assert effects() == [1]
    wrong = {"type": "psycopg", "config": {"dsn": object()}}
    with pytest.raises(eram.ConfigError, match=r"driver\.config must be plain data"):
        eram.Engine(driver=wrong, allow=["eramjs_jobs"])


def test_custom_driver(conn, dsn, make_engine, effects):
    """The three members of EramJS's custom driver; `filename` is the path."""
    eramjs_jobs.CustomDriver.made.clear()
    engine = make_engine(
        dsn="",
        queues={"default": {"limit": 2}},
        driver={"type": "custom", "path": "eramjs_jobs:driver", "config": {"url": dsn}},
        allow=["eramjs_jobs"],
    ).start()
    outside = engine.enqueue(eramjs_jobs.insert, {"value": 1})
    with psycopg.connect(dsn) as session:
        inside = engine.enqueue(eramjs_jobs.insert, {"value": 2}, session=session)
        assert not job_of(conn, inside.id)
    for answer in (outside, inside):
        result = wait_for_state(conn, answer.id, "completed")["result"]
        assert result["session"] == "Connection"
    assert effects() == [1, 2]
    made = eramjs_jobs.CustomDriver.made
    mine = [each for each in made if ("enqueue", False) in each.calls]
    assert [("enqueue", True) in each.calls for each in mine] == [True]
    assert any(
        "run_in_transaction" in each.calls and each.thread.startswith("eram-exec-") for each in made
    )
    with pytest.raises(eram.ConfigError, match='driver has no "filename" here'):
        eram.Engine(driver={"type": "custom", "filename": "./custom_driver.js"})
