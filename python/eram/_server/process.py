"""The process of a PostgreSQL server: whether it lives, and a guard that does not let it stay."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from eram._server.programs import environment

NO_PID = 2**22 + 1  # beyond what any kernel gives to a process
GUARD_TRIES = 50  # to stop a server that is yet to come, ten a second

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


class Guard:
    """A small process that stops a server when this process ends, however it ends.

    Args:
        data: The server's data directory.
        stop: The command that stops the server.
        lock: The file descriptor of a lock, for as long as a server may be starting there.
    """

    def __init__(self, data: Path, stop: Sequence[str], *, lock: int) -> None:
        self._process = subprocess.Popen(
            ("sh", "-c", _GUARD, "sh", str(data), str(GUARD_TRIES), *stop),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            pass_fds=[lock],
            start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
        )

    def brief(self, pid: str) -> None:
        """Tell it which server it is to stop."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{pid}\n".encode())
                self._process.stdin.flush()

    def dismiss(self) -> None:
        """End it, and with it the server that it was told of, if that still runs."""
        # In case it was not told of any server, it hears now that there is none to wait for.
        self.brief(str(NO_PID))
        self._process.communicate()


def is_server(pid: int, data: Path) -> bool:
    """Say whether this process is the server of that data directory."""
    if not Path("/proc/self/cmdline").exists():
        return is_alive(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(data) in command.split(b"\0")


def is_alive(pid: int) -> bool:
    """Say whether there is such a process, whatever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
