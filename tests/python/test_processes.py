"""`python -m eram worker --processes N`: the parent, its children, and how each of them ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sample_jobs
from helpers import eventually, value, wait_for_state
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eram._programs.program import SAME_SIGNAL_SECONDS

LIVING = "select name, id from eram_workers where ended_at is null order by name"


class Parent:
    """A worker of several processes, all of which have started."""

    def __init__(self, program):
        self.program = program
        self._known: set[str] = set()
        program.wait_for_log("worker processes run: ")
        (named,) = re.findall(r"worker processes run: (.*)", program.log)
        self.pids = {name: int(pid) for name, pid in re.findall(r"(\S+) \((\d+)\)", named)}

    def wait_for_another(self, name: str) -> int:
        """Wait until a new process has this place, and return its id."""
        pattern = rf"worker process {name} \((\d+)\) runs again"
        eventually(lambda: {*re.findall(pattern, self.program.log)} - self._known)
        (found,) = {*re.findall(pattern, self.program.log)} - self._known
        self._known.add(found)
        return int(found)


@pytest.fixture
def run_processes(dsn, run_program) -> Iterator[Callable[..., Parent]]:
    """Start two processes, and see that none of them outlives the test."""
    parents = []

    def run(*arguments: str, count: int = 2, **environ: str) -> Parent:
        options = ("--dsn", dsn, "--allow", "sample_jobs", "--name", "w")
        parent = Parent(run_program(*options, "--processes", str(count), *arguments, **environ))
        parents.append(parent)
        return parent

    yield run
    for parent in parents:
        for pid in parent.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended may wait for whoever inherits it."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def thread_count(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/task").iterdir()])


def begun(path: Path) -> list[int]:
    """The processes in which jobs have begun."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.split()[3]) for line in lines if line.startswith("begin")]


def hold_a_job_in_each(conn, parent: Parent, path: Path, seconds: float) -> list[int]:
    """Have one job run in each process of one executor; return the ids."""
    ids = [
        sample_jobs.append_line.enqueue(conn, path=str(path), seconds=seconds).id
        for _ in parent.pids
    ]
    eventually(lambda: set(begun(path)) == set(parent.pids.values()))
    return ids


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_parent_lets_all_of_them_finish(conn, run_processes, tmp_path, number):
    parent = run_processes("--queue", "default=1")
    assert [name for name, _ in conn.execute(LIVING)] == ["w-1", "w-2"] == list(parent.pids)
    ids = hold_a_job_in_each(conn, parent, tmp_path / "lines", 1)
    parent.program.signal(number)
    assert parent.program.wait() == 0
    states = conn.execute("select state from eram_jobs where id = any(%s)", (ids,)).fetchall()
    assert states == [("completed",)] * 2
    assert conn.execute("select distinct end_reason from eram_workers").fetchall() == [("stopped",)]
    assert not any(map(is_alive, parent.pids.values()))
    assert parent.program.log.count("stopping: 2 worker processes have 15.0 seconds to end") == 1


def test_process_that_dies_is_replaced_after_a_pause_that_grows(conn, run_processes):
    parent = run_processes()
    for when in (r"at once", r"in 0\.\d s"):
        pid = parent.pids["w-2"]
        os.kill(pid, signal.SIGKILL)
        parent.pids["w-2"] = parent.wait_for_another("w-2")
        said = rf"WARNING .* w-2 \({pid}\) was ended by SIGKILL; another one follows {when}"
        assert re.search(said, parent.program.log)
    query = "select name, count(*) from eram_workers group by name order by name"
    assert conn.execute(query).fetchall() == [("w-1", 1), ("w-2", 3)]
    answer = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, answer.id, "completed")
    parent.program.signal(signal.SIGTERM)
    assert parent.program.wait() == 0


def test_process_that_was_told_to_end_alone_is_replaced(conn, run_processes):
    parent = run_processes()
    os.kill(parent.pids["w-1"], signal.SIGTERM)
    parent.program.wait_for_log(f"w-1 ({parent.pids['w-1']}) ended with 0; another one follows")
    query = "select count(*) = 2 from eram_workers where name = 'w-1'"
    eventually(lambda: value(conn, query))
    answer = sample_jobs.nothing.enqueue(conn)
    wait_for_state(conn, answer.id, "completed")


def test_second_signal_ends_all_of_them_at_once(conn, run_processes, tmp_path):
    parent = run_processes("--queue", "default=1")
    hold_a_job_in_each(conn, parent, tmp_path / "lines", 30)
    parent.program.signal(signal.SIGTERM)
    parent.program.wait_for_log("stopping: 2 worker processes")
    time.sleep(SAME_SIGNAL_SECONDS)
    parent.program.signal(signal.SIGTERM)
    assert parent.program.wait() == 1
    eventually(lambda: not any(map(is_alive, parent.pids.values())))


def test_process_that_does_not_end_is_killed(run_program, dsn, tmp_path, monkeypatch):
    (tmp_path / "hasty.py").write_text(
        "import sys\n"
        "from eram import worker\n"
        "from eram._programs import processes\n"
        "processes.EXTRA_GRACE_SECONDS = 0.5\n"
        "sys.exit(worker.main())\n"
    )
    monkeypatch.chdir(tmp_path)
    options = ("--dsn", dsn, "--allow", "sample_jobs", "--name", "w", "--grace-period", "0")
    parent = Parent(run_program(*options, "--processes", "2", module="hasty"))
    os.kill(parent.pids["w-2"], signal.SIGSTOP)
    parent.program.signal(signal.SIGTERM)
    assert parent.program.wait() == 1
    assert f"worker process w-2 ({parent.pids['w-2']}) was ended by SIGKILL" in parent.program.log
    assert not any(map(is_alive, parent.pids.values()))


def test_what_the_parent_passes_on_is_no_second_signal(conn, run_processes, tmp_path):
    """Ctrl-C in a terminal, and systemd, signal all of them; the parent may be slow to hear it."""
    parent = run_processes("--queue", "default=1")
    ids = hold_a_job_in_each(conn, parent, tmp_path / "lines", 3)
    os.kill(parent.pids["w-1"], signal.SIGINT)
    parent.program.wait_for_log("stopping: 1 jobs")
    time.sleep(SAME_SIGNAL_SECONDS)
    parent.program.signal(signal.SIGINT)
    assert parent.program.wait() == 0
    states = conn.execute("select state from eram_jobs where id = any(%s)", (ids,)).fetchall()
    assert states == [("completed",)] * 2


def test_children_of_a_killed_parent_end_as_if_told_to(conn, run_processes, tmp_path):
    parent = run_processes("--queue", "default=1")
    ids = hold_a_job_in_each(conn, parent, tmp_path / "lines", 2)
    parent.program.signal(signal.SIGKILL)
    assert parent.program.wait() == -signal.SIGKILL
    eventually(lambda: not any(map(is_alive, parent.pids.values())))
    states = conn.execute("select state from eram_jobs where id = any(%s)", (ids,)).fetchall()
    assert states == [("completed",)] * 2
    assert conn.execute("select distinct end_reason from eram_workers").fetchall() == [("stopped",)]
    assert parent.program.log.count("the parent process is gone") == 2


def test_what_a_handler_forked_keeps_nobody_alive(conn, run_processes, tmp_path):
    parent = run_processes("--grace-period", "0.3")
    path = tmp_path / "pid"
    sample_jobs.fork_and_wait.enqueue(conn, path=str(path))
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    grandchild = int(path.read_text())
    try:
        parent.program.signal(signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, parent.pids.values())))
        assert is_alive(grandchild)
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_parent_buries_whatever_was_left_to_it(conn, run_program, dsn, tmp_path, monkeypatch):
    """As process 1 of a container it inherits what its children have left."""
    (tmp_path / "heir.py").write_text(
        "import ctypes, sys\n"
        "from eram import worker\n"
        "PR_SET_CHILD_SUBREAPER = 36\n"
        "assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0\n"
        "sys.exit(worker.main())\n"
    )
    monkeypatch.chdir(tmp_path)
    options = ("--dsn", dsn, "--allow", "sample_jobs", "--name", "w", "--processes", "2")
    parent = Parent(run_program(*options, module="heir"))
    path = tmp_path / "pid"
    sample_jobs.fork_and_wait.enqueue(conn, path=str(path))
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    grandchild = int(path.read_text())
    for pid in [*parent.pids.values(), grandchild]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{grandchild}").exists())
    for name in parent.pids:
        parent.wait_for_another(name)
    parent.program.signal(signal.SIGTERM)
    assert parent.program.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dsn", "host=/nowhere dbname=x"], 1, "eram.worker: the worker cannot start: "),
        (["--processes", "0"], 2, "processes must be a number from 1 to"),
        (["--processes", "many"], 2, "argument --processes: invalid int value: 'many'"),
    ],
)
def test_what_is_wrong_from_the_start_is_said_once(run_program, arguments, code, message):
    program = run_program("--allow", "sample_jobs", "--processes", "3", *arguments)
    assert program.wait() == code
    assert program.log.count(message) == 1
    assert "Traceback" not in program.log


def test_database_without_eram_ends_all_of_them(bare_dsn, run_program):
    program = run_program("--allow", "sample_jobs", "--processes", "3", "--dsn", bare_dsn)
    assert program.wait() == 2
    assert program.log.count("eram is not installed in this database") == 1


def test_process_that_ends_before_it_has_started_ends_all(dsn, run_program, tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.chdir(tmp_path)
    program = run_program("--allow", "leaving", "--processes", "2", "--dsn", dsn)
    assert program.wait() == 1
    assert program.log.count("it ended with 0 before it had started") == 1


def test_what_goes_wrong_later_is_tried_again_until_it_does_not(conn, dsn, run_processes):
    parent = run_processes("--log-level", "debug")
    database = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as admin:
        admin.execute(f"alter database {database} allow_connections false")
        os.kill(parent.pids["w-1"], signal.SIGKILL)
        parent.program.wait_for_log("DEBUG")
        eventually(lambda: len(re.findall("DEBUG .*w-1 is tried again", parent.program.log)) >= 2)
        admin.execute(f"alter database {database} allow_connections true")
    parent.program.wait_for_log("runs again")
    assert len(re.findall("WARNING .*w-1 is tried again", parent.program.log)) == 1
    assert "is not currently accepting connections" in parent.program.log
    eventually(lambda: [name for name, _ in conn.execute(LIVING)][-2:] == ["w-1", "w-2"])


def test_parent_imports_nothing_and_has_one_thread(conn, run_processes, tmp_path, monkeypatch):
    (tmp_path / "confiding.py").write_text(
        "import os\n"
        f"with open({str(tmp_path / 'pids')!r}, 'a') as file:\n"
        "    print(os.getpid(), file=file)\n"
    )
    monkeypatch.chdir(tmp_path)
    parent = run_processes("--allow", "confiding", count=3)
    imported = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    assert imported == set(parent.pids.values())
    assert thread_count(parent.program.pid) == 1
    assert all(thread_count(pid) > 1 for pid in imported)


def test_file_says_how_many(conn, dsn, run_program, tmp_path):
    path = tmp_path / "worker.toml"
    path.write_text(f'dsn = "{dsn}"\nallow = ["sample_jobs"]\nprocesses = 2\n')
    program = run_program("--config", str(path))
    program.wait_for_log("2 worker processes run: ")
    names = [name for name, _ in conn.execute(LIVING)]
    assert [name.rpartition(":")[2] for name in names] == [f"{program.pid}-1", f"{program.pid}-2"]
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
