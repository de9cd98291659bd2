"""The processes of a run: workers and producers, each with a network of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from chaos.evidence import DIRECTORY, Record
from chaos.network import Network

TESTS = Path(__file__).parents[1]
QUEUES = {"default": 4, "money": 2, "narrow": 2, "long": 3}
STOP_SECONDS = 60.0
# A worker that finds no database when it starts gives up.
COULD_NOT_START = 1
# What the log of a process says that has begun, and minds signals.
BEGUN = ("registered", "producing")
# What a worker's log must not have, besides what begins with a traceback.
COMPLAINTS = ("Traceback (most recent call last)", "Exception in thread", "Fatal Python error")


class Process(ABC):
    """A process that can be killed, stopped and started anew.

    Args:
        name: what it is called, throughout.
        directory: where its log and its evidence lie.
        record: where what is done to it is put on record.
        network: its way to the server, if it has one of its own.
    """

    def __init__(
        self, name: str, directory: Path, record: Record, network: Network | None = None
    ) -> None:
        self.name = name
        self.network = network
        self._directory = directory
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"{name}.log"
        self._log_start = 0
        self.is_stopped = False
        self.complaints: list[str] = []

    @property
    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @property
    @abstractmethod
    def _environment(self) -> dict[str, str]: ...

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None:
            return
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                (sys.executable, *self._command),
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
                    **self._environment,
                },
                stdin=subprocess.PIPE,  # whose end tells it that chaos has ended
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to deal with
            )

    def look(self) -> None:
        """Start it anew if it has ended by itself, which it must not once it has begun."""
        if self._process is not None and (code := self._process.poll()) is not None:
            if code != COULD_NOT_START or self._has_begun():
                self._complain(f"ended by itself, with exit code {code}")
            self._forget()
            self.start()

    def kill(self) -> None:
        """End it at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        # What it has put on record is all there; only then it counts as killed.
        self._record.write("killed", victim=self.pid)
        self._forget()

    def suspend(self) -> None:
        self._signal(signal.SIGSTOP)
        self.is_stopped = True

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_stopped = False

    def terminate(self) -> None:
        """Tell it to end."""
        self._signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, as it was told to."""
        if self._process is None:
            return
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._complain(f"did not end within {STOP_SECONDS:g} s")
            self.kill()
        else:
            if code != 0 and (code != -signal.SIGTERM or self._has_begun()):
                self._complain(f"ended with exit code {code}")
            self._forget()

    def read_log(self) -> None:
        """Look for what must not be in its log."""
        lines = self._said().splitlines() if self._log.exists() else []
        for number, line in enumerate(lines):
            if line.startswith(COMPLAINTS):
                self._complain(" | ".join(lines[number : number + 12]))

    def _has_begun(self) -> bool:
        said = self._said(self._log_start)
        return any(word in said for word in BEGUN)

    def _said(self, since: int = 0) -> str:
        with self._log.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _complain(self, text: str) -> None:
        self.complaints.append(f"{self.name} (process {self.pid}): {text}")

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        self.is_stopped = False


class Worker(Process):
    """A `python -m eram.worker` with all queues."""

    def __init__(
        self,
        name: str,
        directory: Path,
        record: Record,
        *,
        dsn: str,
        network: Network | None = None,
    ) -> None:
        super().__init__(name, directory, record, network)
        self._dsn = dsn

    @property
    def _command(self) -> Sequence[str]:
        return (
            *("-m", "eram.worker", "--name", self.name, "--allow", "chaos.handlers"),
            *("--poll-interval", "0.3", "--grace-period", "20"),
            *(f"--queue={queue}={limit}" for queue, limit in QUEUES.items()),
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {DIRECTORY: str(self._directory), "DATABASE_URL": self._dsn}


class Producer(Process):
    """A producer, which goes on with other jobs each time that it is started."""

    def __init__(
        self,
        name: str,
        directory: Path,
        record: Record,
        *,
        dsn: str,
        seed: int,
        pause: float,
        network: Network | None = None,
    ) -> None:
        super().__init__(name, directory, record, network)
        self._dsn = dsn
        self._seed = seed
        self._pause = pause
        self._starts = 0

    @property
    def _command(self) -> Sequence[str]:
        self._starts += 1
        name = f"{self.name}.{self._starts}"
        return (
            *("-m", "chaos.producer", "--dsn", self._dsn, "--evidence", str(self._directory)),
            *("--name", name, "--seed", str(self._seed), "--pause", str(self._pause)),
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {}
