"""How a job ends, and what is no end of it: each a function of the job that waits."""

from __future__ import annotations

import psycopg

from .helpers import column, complete, value
from .unique_helpers import claim


def complete_one(conn: psycopg.Connection, job_id: int) -> None:
    assert complete(conn, [claim(conn, job_id)]) == [job_id]


def complete_unkept(conn: psycopg.Connection, job_id: int) -> None:
    conn.execute("select eram_set_queue('default', max_age => '{\"completed\": 0}')")
    complete_one(conn, job_id)
    assert value(conn, "select count(*) from eram_job_specs where job_id = %s", job_id) == 0


def prune_completed(conn: psycopg.Connection, job_id: int) -> None:
    complete_one(conn, job_id)
    assert value(conn, "select eram_prune_jobs('0')") == 1


def fail_for_good(conn: psycopg.Connection, job_id: int) -> None:
    conn.execute("update eram_job_specs set max_attempts = 1")
    job = claim(conn, job_id)
    assert value(conn, "select eram_fail_job(%s, %s, 'x')", job.id, job.run) == "discarded"


def cancel_waiting(conn: psycopg.Connection, job_id: int) -> None:
    assert value(conn, "select eram_cancel_job(%s)", job_id) is True


def cancel_running(conn: psycopg.Connection, job_id: int) -> None:
    claim(conn, job_id)
    assert value(conn, "select eram_cancel_job(%s)", job_id) is True


def cancel_itself(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    assert value(conn, "select eram_cancel_job(%s, 'enough', %s)", job_id, job.run) is True


def cancel_many(conn: psycopg.Connection, job_id: int) -> None:
    query = "select eram_cancel_jobs(jsonb_build_object('ids', jsonb_build_array(%s::bigint)))"
    assert value(conn, query, job_id) == 1


def cancel_many_running(conn: psycopg.Connection, job_id: int) -> None:
    claim(conn, job_id)
    cancel_many(conn, job_id)


def discard(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    assert value(conn, "select eram_discard_job(%s, %s)", job.id, job.run) is True


def lose_worker(conn: psycopg.Connection, job_id: int, *, is_last: bool = True) -> None:
    if is_last:
        conn.execute("update eram_job_specs set max_attempts = 1")
    claim(conn, job_id)
    conn.execute("update eram_running_jobs set worker = 4711")
    conn.execute("select set_config('eram.rescue_swept', '', false)")
    assert value(conn, "select eram_rescue_jobs()") == 1


def delete_waiting(conn: psycopg.Connection, job_id: int) -> None:
    assert value(conn, "select eram_delete_job(%s)", job_id) is True


def delete_completed(conn: psycopg.Connection, job_id: int) -> None:
    complete_one(conn, job_id)
    delete_waiting(conn, job_id)


def delete_many(conn: psycopg.Connection, job_id: int) -> None:
    query = "select eram_delete_jobs(jsonb_build_object('ids', jsonb_build_array(%s::bigint)))"
    assert value(conn, query, job_id) == 1


def delete_many_completed(conn: psycopg.Connection, job_id: int) -> None:
    complete_one(conn, job_id)
    delete_many(conn, job_id)


def fail(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    assert value(conn, "select eram_fail_job(%s, %s, 'x')", job.id, job.run) == "retryable"


def fail_at_once(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    query = "select eram_fail_job(%s, %s, 'x', delay => '0')"
    assert value(conn, query, job.id, job.run) == "retryable"


def snooze(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    assert value(conn, "select eram_snooze_job(%s, %s, '1 hour')", job.id, job.run) is True


def release(conn: psycopg.Connection, job_id: int) -> None:
    job = claim(conn, job_id)
    query = "select eram_release_jobs(array[%s::bigint], array[%s])"
    assert column(conn, query, job.id, job.run) == [job_id]


def stop_worker(conn: psycopg.Connection, job_id: int) -> None:
    claim(conn, job_id)
    conn.execute("select eram_stop_worker(max(id)) from eram_workers")


def be_rescued(conn: psycopg.Connection, job_id: int) -> None:
    lose_worker(conn, job_id, is_last=False)


def update(conn: psycopg.Connection, job_id: int) -> None:
    query = "select eram_update_job(%s, args => '{\"a\": 9}', priority => 3)"
    assert value(conn, query, job_id) is True


def move(conn: psycopg.Connection, job_id: int) -> None:
    assert value(conn, "select eram_move_jobs('{\"queue\": \"default\"}', 'elsewhere')") == 1
