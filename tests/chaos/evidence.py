"""What happened, on record outside of eram: a file for each process, a line for each event.

A line is written by one call of the system before the process goes on, so that a kill loses
nothing of it. It is not synced, because the machine does not go down.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

DIRECTORY = "ERAM_CHAOS_EVIDENCE"  # the environment's name for where the files lie
SUFFIX = ".events"

Event: TypeAlias = dict[str, Any]


class Record:
    """The file of this process; every thread may write to it.

    Args:
        directory: where the files of all processes lie.
    """

    def __init__(self, directory: Path) -> None:
        self._pid = os.getpid()
        path = directory / f"{self._pid}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """Put an event on record, with the time: all processes of a machine share that clock."""
        line = {"event": event, "at": time.monotonic_ns(), "pid": self._pid, **fields}
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def close(self) -> None:
        os.close(self._file)


def read_all(directory: Path) -> list[Event]:
    """Return the events of all processes in order of time."""
    events = [event for path in directory.glob(f"*{SUFFIX}") for event in _read(path)]
    return sorted(events, key=lambda event: int(event["at"]))


def _read(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            # A process that was killed in the middle of a line leaves half of one.
            with contextlib.suppress(ValueError):
                yield json.loads(line)
