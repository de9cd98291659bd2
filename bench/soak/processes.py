"""The processes of a soak: worker processes, what they write, and what they and the server use."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Self

from soak.handlers import EVIDENCE, ExpectedError

BENCH = Path(__file__).parents[1]
QUEUES = {"bulk": 10, "single": 5, "unkept": 5, "mixed": 10}
STOP_SECONDS = 30.0


class Worker:
    """A `python -m eram.worker` with all queues of the soak.

    Args:
        name: what it is called here and in the database.
        dsn: where the database is.
        directory: for its evidence and its log.
    """

    def __init__(self, name: str, dsn: str, directory: Path) -> None:
        self.name = name
        self._evidence = directory / f"{name}.evidence"
        self._evidence.touch()
        self._read_bytes = 0
        self._log = directory / f"{name}.log"
        options = [f"--queue={queue}={limit}" for queue, limit in QUEUES.items()]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                (
                    *(sys.executable, "-m", "eram.worker", f"--name={name}", *options),
                    *("--allow=soak.handlers", "--middleware=soak.handlers:witness"),
                    *("--log-format=json", "--log-level=warning"),
                ),
                env={
                    **os.environ,
                    "DATABASE_URL": dsn,
                    EVIDENCE: str(self._evidence),
                    "PYTHONPATH": os.pathsep.join([str(BENCH), os.environ.get("PYTHONPATH", "")]),
                },
                stdin=subprocess.PIPE,  # whose end tells it that the soak has ended
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is the soak's to deal with
            )
        self.pid = self._process.pid

    @classmethod
    @contextlib.contextmanager
    def start(cls, name: str, dsn: str, directory: Path) -> Iterator[Self]:
        """Start one that ends with the block, whatever happens."""
        worker = cls(name, dsn, directory)
        try:
            yield worker
        finally:
            worker.kill()

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def read(self) -> list[str]:
        """Return the lines of evidence that it has written since the last call."""
        with self._evidence.open("rb") as file:
            file.seek(self._read_bytes)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(complete) + len(newline)
        return complete.decode().splitlines()

    def complaints(self, cancelled: Container[int] = ()) -> list[str]:
        """Return the warnings and errors that it has logged.

        Handlers that are to fail do not count, nor do jobs that were cancelled while they ran: what
        these report comes too late.
        """
        with self._log.open(encoding="utf-8") as log:
            records = [_record(line) for line in log if ExpectedError.__name__ not in line]
        return [
            f"{record['level']}: {record['message']}"
            for record in records
            if not ("lost job" in record["message"] and record.get("job_id") in cancelled)
        ]

    def stop(self) -> int:
        """Tell it to stop, and return its exit code when it has."""
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def private_bytes(pid: int) -> int | None:
    """Return the memory that a process shares with none, where the system tells.

    What a backend has touched of the shared buffers would grow until it is all of them.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0][1]) * 1024 if lines else None


def _record(line: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:  # not by a logger: a thread has died, say
        return {"level": "stderr", "message": line.strip()}
    return record


def server_errors(log: Path) -> list[str]:
    """Return what a server has logged as errors."""
    levels = ("ERROR:", "FATAL:", "PANIC:")
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.strip() for line in lines if any(level in line for level in levels)]
