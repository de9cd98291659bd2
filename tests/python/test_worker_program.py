"""`python -m eram.worker` as a process: how it starts, and each way in which it ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import sample_jobs
from helpers import eventually, job_of, wait_for_state

import eram
from eram._programs.program import SAME_SIGNAL_SECONDS, flush_streams

RESCUED_WITHIN_SECONDS = 5


def lines(path):
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def begun(path):
    return [words[1:] for words in lines(path) if words[0] == "begin"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_runs_and_releases_the_rest(conn, spawn_worker, tmp_path, number):
    path = tmp_path / "lines"
    worker = spawn_worker("--queue", "default=1")
    running = sample_jobs.append_line.enqueue(conn, path=str(path), seconds=1)
    eventually(lambda: begun(path))
    rest = eram.enqueue_many(conn, [{"handler": sample_jobs.nothing} for _ in range(3)])
    worker.signal(number)
    assert worker.wait() == 0
    assert job_of(conn, running.id)["state"] == "completed"
    assert {job_of(conn, answer.id)["state"] for answer in rest} == {"available"}
    assert "stopped" in worker.log
    assert conn.execute("select end_reason from eram_workers").fetchall() == [("stopped",)]


@pytest.mark.usefixtures("settled_server")
def test_job_that_outlives_the_grace_period_is_left_to_be_rescued(conn, spawn_worker, tmp_path):
    path = tmp_path / "lines"
    worker = spawn_worker("--grace-period", "0.3")
    answer = sample_jobs.append_line.enqueue(conn, path=str(path), seconds=30)
    eventually(lambda: begun(path))
    start = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - start < 5
    assert "left to be rescued" in worker.log
    conn.execute(
        "update eram_job_specs set args = args || '{\"seconds\": 0}' where job_id = %s",
        (answer.id,),
    )
    spawn_worker()
    wait_for_state(conn, answer.id, "completed")
    assert [run for _, run, _ in begun(path)] == ["1", "2"]


def test_handler_whose_run_is_over_is_not_said_to_be_rescued(conn, spawn_worker, tmp_path):
    path = tmp_path / "lines"
    worker = spawn_worker("--grace-period", "0.3")
    sample_jobs.append_line.options(timeout=0.5, max_attempts=1).enqueue(
        conn, path=str(path), seconds=30
    )
    worker.wait_for_log("is discarded: timed out")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "1 handlers did not end though their runs are over" in worker.log
    assert "left to be rescued" not in worker.log


def test_second_signal_leaves_at_once(conn, spawn_worker, tmp_path):
    path = tmp_path / "lines"
    worker = spawn_worker()
    sample_jobs.append_line.enqueue(conn, path=str(path), seconds=30)
    eventually(lambda: begun(path))
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    time.sleep(SAME_SIGNAL_SECONDS)
    start = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert time.monotonic() - start < 2


def test_signal_that_comes_twice_is_one(conn, spawn_worker, tmp_path):
    """As `timeout` sends it: to the worker, and at once again to its group."""
    path = tmp_path / "lines"
    worker = spawn_worker()
    running = sample_jobs.append_line.enqueue(conn, path=str(path), seconds=1)
    eventually(lambda: begun(path))
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert job_of(conn, running.id)["state"] == "completed"


@pytest.mark.timing
@pytest.mark.usefixtures("settled_server")
def test_killed_workers_jobs_run_again_soon_and_a_live_ones_never(conn, spawn_worker, tmp_path):
    paths = [tmp_path / name for name in ("killed", "alive")]
    killed = spawn_worker("--queue", "killed=1")
    alive = spawn_worker("--queue", "alive=1", "--queue", "killed=1")
    eventually(lambda: conn.execute("select count(*) from eram_workers").fetchone() == (2,))
    held = sample_jobs.append_line.options(queue="alive").enqueue(
        conn, path=str(paths[1]), seconds=8
    )
    eventually(lambda: begun(paths[1]))
    # The live worker must not be the one that takes it.
    os.kill(alive.pid, signal.SIGSTOP)
    lost = sample_jobs.append_line.options(queue="killed").enqueue(
        conn, path=str(paths[0]), seconds=1
    )
    eventually(lambda: begun(paths[0]))
    os.kill(alive.pid, signal.SIGCONT)
    assert begun(paths[0])[0][2] == str(killed.pid)

    killed.signal(signal.SIGKILL)
    start = time.monotonic()
    eventually(lambda: len(begun(paths[0])) == 2, RESCUED_WITHIN_SECONDS)
    assert time.monotonic() - start < RESCUED_WITHIN_SECONDS
    assert wait_for_state(conn, lost.id, "completed")["attempt"] == 2
    assert job_of(conn, lost.id)["errors"]
    assert wait_for_state(conn, held.id, "completed")["attempt"] == 1
    assert len(begun(paths[1])) == 1


@pytest.mark.usefixtures("settled_server")
def test_job_that_kills_its_worker_is_not_run_for_ever(conn, spawn_worker):
    answer = sample_jobs.die.options(max_attempts=1).enqueue(conn)
    assert spawn_worker().wait() == -signal.SIGKILL
    spawn_worker()
    job = wait_for_state(conn, answer.id, "discarded")
    assert len(job["errors"]) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_program_may_be_started_without_standard_streams(
    conn, dsn, run_program, tmp_path, monkeypatch, count
):
    (tmp_path / "shut.py").write_text(
        "import os, sys\n"
        "os.closerange(0, 2)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'eram.worker', *sys.argv[1:]])\n"
    )
    monkeypatch.chdir(tmp_path)
    options = ("--dsn", dsn, "--allow", "sample_jobs", "--processes", str(count))
    worker = run_program(*options, module="shut")
    worker.wait_for_log("registered")
    wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    streams = [Path(f"/proc/{worker.pid}/fd/{number}").readlink() for number in (0, 1)]
    assert streams == [Path(os.devnull)] * 2
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "Traceback" not in worker.log


def test_what_cannot_be_written_any_more_holds_up_no_end(monkeypatch):
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        full.write("to nobody")
        flush_streams()
    monkeypatch.setattr("sys.stdout", None)
    flush_streams()


def test_current_folder_can_be_imported_from(conn, dsn, run_program, tmp_path, monkeypatch):
    (tmp_path / "app_jobs.py").write_text("import eram\n@eram.job\ndef ping(job): return 'pong'\n")
    monkeypatch.chdir(tmp_path)
    worker = run_program("--allow", "app_jobs", DATABASE_URL=dsn)
    worker.wait_for_log("registered")
    answer = eram.enqueue(conn, "app_jobs:ping")
    assert wait_for_state(conn, answer.id, "completed")["result"] == "pong"


def test_worker_that_leaves_maintenance_to_others(conn, spawn_worker):
    worker = spawn_worker("--no-maintenance")
    worker.wait_for_log("finished jobs are kept: completed 1 day")
    worker.wait_for_log("schedules and maintenance are left to others")
    answer = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, answer.id, "completed")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert conn.execute("select count(*) from eram_schedules").fetchone() == (0,)


def test_options_come_from_a_file(conn, dsn, run_program, tmp_path):
    path = tmp_path / "worker.toml"
    path.write_text(f'dsn = "{dsn}"\nallow = ["sample_jobs"]\nname = "w1"\n[queues]\nmail = 1\n')
    worker = run_program("--config", str(path))
    worker.wait_for_log("registered")
    answer = sample_jobs.mail.enqueue(conn, to="x")
    wait_for_state(conn, answer.id, "completed")
    assert conn.execute("select name, queues from eram_workers").fetchall() == [("w1", ["mail"])]


def test_database_from_the_libpq_variables(conn, run_program):
    info = conn.info
    worker = run_program(
        "--allow",
        "sample_jobs",
        DATABASE_URL="",
        PGHOST=info.host,
        PGPORT=str(info.port),
        PGUSER=info.user,
        PGPASSWORD=info.password,
        PGDATABASE=info.dbname,
    )
    worker.wait_for_log("registered")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dsn", "dbname=x"], 2, "--allow"),
        (["--allow", "app", "--queue", "x"], 2, "--queue must be NAME=LIMIT"),
        (["--allow", "app", "--config", "absent.toml"], 2, "absent.toml cannot be read"),
        (["--allow", "app", "--dsn", "host=/nowhere dbname=x"], 1, "the worker cannot start"),
        (["--alow", "app"], 2, "unrecognized arguments: --alow"),
        (["--allow", "app", "--name", b"\xff"], 2, "an argument is not in UTF-8: '\\udcff'"),
    ],
)
def test_program_says_what_is_wrong_and_ends(run_program, arguments, code, message):
    program = run_program(*arguments)
    assert program.wait() == code
    assert message in program.log
    assert "Traceback" not in program.log


def test_database_without_eram_ends_the_program(bare_dsn, run_program):
    program = run_program("--allow", "app", "--dsn", bare_dsn)
    assert program.wait() == 2
    assert "eram is not installed in this database" in program.log
