"""What eram_metrics shows, read by the parser that Prometheus' own client brings."""

from __future__ import annotations

import math
import re

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from eram._server.exposition import QUERY, exposition

from .health_helpers import CHECKS
from .helpers import TABLES, column, complete, enqueue, enqueue_many, fetch, start_worker, value

OF_QUEUES = (
    *("eram_queue_waiting_jobs", "eram_queue_due_jobs", "eram_queue_retryable_jobs"),
    *("eram_queue_running_jobs", "eram_queue_oldest_due_seconds", "eram_queue_paused"),
    *("eram_queue_workers", "eram_jobs_completed_total", "eram_attempts_failed_total"),
    *("eram_jobs_discarded_total", "eram_jobs_cancelled_total"),
)
# What a page of metrics has, and the labels of each.
FAMILIES = {
    "eram_info": {"version"},
    **{name: {"queue"} for name in OF_QUEUES},
    "eram_queue_wait_seconds": {"queue", "quantile"},
    "eram_queue_run_seconds": {"queue", "quantile"},
    "eram_workers": {"condition"},
    "eram_schedule_failing": {"schedule"},
    "eram_health_level": {"check"},
    "eram_table_bytes": {"table"},
    "eram_table_dead_rows": {"table"},
    "eram_oldest_snapshot_seconds": set(),
    "eram_oldest_snapshot_transactions": set(),
}
ODD = 'a "b"\\c\nd\te{f="g"} ä 🐘'


def page_of(conn: psycopg.Connection) -> str:
    return exposition(conn.execute(QUERY).fetchall())


def samples_of(conn: psycopg.Connection) -> dict[tuple[str, ...], float]:
    """Return the samples as the parser reads them, by name and label values."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(page_of(conn)):
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


@pytest.fixture
def worked(conn: psycopg.Connection) -> psycopg.Connection:
    """A database in which some of everything has happened, and was recorded."""
    worker = start_worker(conn, "mail", "default")
    enqueue_many(conn, 6, queue="mail")
    one, two, three, *rest = fetch(conn, worker, 6, "mail")
    conn.execute("select eram_fail_job(%s, %s, 'no')", [one.id, one.run])
    conn.execute("select eram_discard_job(%s, %s, 'no')", [two.id, two.run])
    conn.execute("select eram_cancel_job(%s)", [three.id])
    complete(conn, rest[:2])
    enqueue(conn, queue="later", delay=3600)
    enqueue(conn, queue="mail")
    conn.execute("select eram_pause_queue('later')")
    conn.execute("select * from eram_tick()")
    record(conn)
    return conn


def record(conn: psycopg.Connection) -> None:
    """Have everything recorded that has happened until now."""
    conn.execute("update eram_schedules set next_run_at = now() where name = 'eram:recorder'")
    conn.execute("select * from eram_tick()")


def test_it_is_what_prometheus_reads(worked):
    families = {each.name: each for each in text_string_to_metric_families(page_of(worked))}
    # The parser takes the ending of counters off.
    expected = {name.removesuffix("_total"): labels for name, labels in FAMILIES.items()}
    assert families.keys() == expected.keys()
    for name, family in families.items():
        assert family.type == ("counter" if f"{name}_total" in FAMILIES else "gauge"), name
        assert re.fullmatch(r"[A-Z].*\.", family.documentation), name
        for sample in family.samples:
            assert {*sample.labels} == expected[name], sample
            assert math.isfinite(sample.value), sample


def test_each_family_is_announced_once_and_stands_together(worked):
    lines = page_of(worked).splitlines()
    announced = [line.split()[1:3] for line in lines if line.startswith("#")]
    once = [[kind, name] for name in FAMILIES for kind in ("HELP", "TYPE")]
    assert sorted(announced) == sorted(once)
    said = (line.removeprefix("# HELP ") for line in lines if "# TYPE" not in line)
    names = [re.split(r"[{ ]", line)[0] for line in said]
    changes = [name for name, before in zip(names, ["", *names], strict=False) if name != before]
    assert len(changes) == len({*changes}) == len(FAMILIES)
    assert {line.split()[3] for line in lines if line.startswith("# TYPE")} == {"gauge", "counter"}


def test_the_figures_of_queues(worked):
    found = samples_of(worked)
    version = value(worked, "select eram_version()")
    assert found["eram_info", version] == 1
    expected = {
        "eram_queue_waiting_jobs": (2, 1),
        "eram_queue_due_jobs": (1, 0),
        "eram_queue_retryable_jobs": (1, 0),
        "eram_queue_running_jobs": (1, 0),
        "eram_queue_paused": (0, 1),
        "eram_queue_workers": (1, 0),
    }
    for name, (mail, later) in expected.items():
        assert found[name, "mail"] == mail, name
        assert found[name, "later"] == later, name
    assert 0 < found["eram_queue_oldest_due_seconds", "mail"] < 60
    assert found["eram_queue_oldest_due_seconds", "later"] == 0
    assert found["eram_workers", "alive"] == 1
    assert found["eram_workers", "silent"] == found["eram_workers", "missing"] == 0
    for quantile in ("0.5", "0.95", "0.99"):
        assert 0 <= found["eram_queue_wait_seconds", quantile, "mail"] < 60
        assert 0 <= found["eram_queue_run_seconds", quantile, "mail"] < 60


def test_the_figures_of_the_database(worked):
    found = samples_of(worked)
    assert {name for kind, *rest in found if kind == "eram_health_level" for name in rest} == CHECKS
    assert {found["eram_health_level", name] for name in CHECKS} == {0}
    tables = {name for kind, *rest in found if kind == "eram_table_bytes" for name in rest}
    assert tables >= {*TABLES}
    size = "select pg_total_relation_size('eram_job_specs')"
    assert found["eram_table_bytes", "eram_job_specs"] == value(worked, size)
    assert found["eram_table_dead_rows", "eram_job_specs"] >= 0
    assert 0 <= found["eram_oldest_snapshot_seconds",] < 60


def test_counters_only_grow(worked):
    before = samples_of(worked)
    assert before["eram_jobs_completed_total", "mail"] == 2
    assert before["eram_attempts_failed_total", "mail"] >= 1
    assert before["eram_jobs_discarded_total", "mail"] == 1
    assert before["eram_jobs_cancelled_total", "mail"] == 1
    worked.execute("select eram_delete_jobs('{\"all\": true}')")
    record(worked)
    after = samples_of(worked)
    for key, count in before.items():
        if key[0].endswith("_total"):
            assert after[key] >= count, key


def test_levels_as_numbers(worked):
    worked.execute("select eram_start_worker('w', '{default}', 0)")
    worked.execute(
        "update eram_workers set heartbeat_at = now() - interval '3 minutes' where name = 'w'"
    )
    assert samples_of(worked)["eram_health_level", "workers"] == 1
    worked.execute("update eram_workers set heartbeat_at = now() - interval '3 minutes'")
    assert samples_of(worked)["eram_health_level", "workers"] == 2


def test_schedules_that_fail(worked):
    worked.execute("select eram_schedule('hourly', '1 hour', 'app:run')")
    assert samples_of(worked)["eram_schedule_failing", "hourly"] == 0
    worked.execute("update eram_schedules set last_error = 'no' where name = 'hourly'")
    assert samples_of(worked)["eram_schedule_failing", "hourly"] == 1
    worked.execute("select eram_pause_schedule('hourly')")
    assert ("eram_schedule_failing", "hourly") not in samples_of(worked)


def test_whatever_a_queue_is_called_arrives(conn):
    name = ODD.replace("\n", "").replace("\t", "")
    enqueue(conn, queue=name)
    assert samples_of(conn)["eram_queue_waiting_jobs", name] == 1


# The text, of whatever.


def test_labels_and_help_are_escaped():
    text = exposition([("m", "gauge", "One\\two\nthree.", {"a": ODD, "b": ""}, 1.5)])
    assert text.count("\n") == 3
    (family,) = text_string_to_metric_families(text)
    assert family.documentation == "One\\two\nthree."
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"a": ODD, "b": ""}, 1.5)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0.0, "0"),
        (-1.0, "-1"),
        (12345678901.0, "12345678901"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(number, said):
    text = exposition([("m", "gauge", "Help.", {}, number)])
    assert text.splitlines()[-1] == f"m {said}"
    (family,) = text_string_to_metric_families(text)
    parsed = family.samples[0].value
    assert parsed == number or (math.isnan(parsed) and math.isnan(number))


def test_what_is_not_known_is_left_out():
    assert exposition([("m", "gauge", "Help.", {}, None)]) == ""
    assert exposition([]) == ""


def test_families_stand_together_whatever_the_order():
    rows = [(name, "gauge", "Help.", {"n": str(n)}, n) for n in range(2) for name in ("a", "b")]
    assert [line[0] for line in exposition(rows).splitlines() if line[0] != "#"] == list("aabb")


def test_the_view_is_documented_as_it_is(conn):
    columns = """
        select attname || ' ' || format_type(atttypid, atttypmod)
        from pg_attribute
        where attrelid = 'eram_metrics'::regclass and attnum > 0
        order by attnum
    """
    assert column(conn, columns) == [
        *("name text", "type text", "help text", "labels jsonb", "value double precision")
    ]
