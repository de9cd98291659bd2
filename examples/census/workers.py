"""The workers of the census: processes of their own, none of which outlives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from database import CensusError

COMMAND = (
    *(sys.executable, str(Path(__file__).with_name("bound_worker.py"))),
    *("--allow", "census"),
    *("--queue", "files=4"),
    *("--queue", "summary=1"),
)
STOP_SECONDS = 20.0
LOG_LINES = 20

Process = subprocess.Popen[bytes]


@contextlib.contextmanager
def running(dsn: str, count: int, log: Path) -> Iterator[Sequence[Process]]:
    """Run workers as long as the block; whatever happens, even to this process, none is left."""
    here = str(Path(__file__).parent)
    environ = {
        **os.environ,
        "DATABASE_URL": dsn,
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",  # of files that are read
    }
    workers: list[Process] = []
    with log.open("wb") as output:
        try:
            for _ in range(count):
                workers.append(  # noqa: PERF401 - so that each is known as soon as it runs
                    # In a group of its own: a Ctrl-C goes to the census, which stops its workers.
                    subprocess.Popen(
                        COMMAND,
                        env=environ,
                        stdin=subprocess.PIPE,  # ends with this process, and they with it
                        stdout=output,
                        stderr=output,
                        process_group=0,
                    )
                )
            yield workers
            _stop(workers)
            check(workers, log, is_stopped=True)
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()


def check(workers: Sequence[Process], log: Path, *, is_stopped: bool = False) -> None:
    """Raise CensusError if a worker has ended that should not have, or not as it should have."""
    for worker in workers:
        code = worker.poll()
        if code is not None and not (is_stopped and code == 0):
            raise CensusError(f"a worker ended with exit code {code}:\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the end of the workers' log."""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:])


def _stop(workers: Sequence[Process]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise CensusError("a worker did not stop when it was told to") from None
