"""A peer as a side: its program (peers/_program.py) in its own environment, spoken to by lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import psycopg
from environments import Environment, UnavailableError
from sides import CALL_JOBS, STOP_SECONDS, Producer, Stamps, Worker

if TYPE_CHECKING:
    from lab import Bench

INSTALL_SECONDS = 60.0
HEAR_SECONDS = 300.0
NO_SQL = "no function of SQL that enqueues was found in its documentation"


class Peer:
    """Another job queue on PostgreSQL."""

    def __init__(self, environment: Environment) -> None:
        about = environment.header["tool"]["bench"]
        self._environment = environment
        self._about = about
        self.name = self.label = environment.name
        self.share = float(about.get("share", 1))
        self.without: Mapping[str, str] = {
            **({} if "enqueue_set" in about else {"enqueue_set": NO_SQL}),
            **about.get("without", {}),
        }
        self.enqueue_set: str = about.get("enqueue_set", "")

    @classmethod
    def named(cls, name: str) -> Self:
        """Read a peer's file; a LookupError says which peers there are."""
        return cls(Environment.of(name))

    def make(self) -> None:
        """Make its environment; an UnavailableError says why that cannot be."""
        self._environment.make()

    def install(self, dsn: str) -> None:
        """Have it make its tables."""
        done = subprocess.run(
            self._environment.command("install", dsn),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise UnavailableError(f"its tables could not be made: {lines[-1]}")

    def describe(self) -> dict[str, str]:
        """Say what is measured."""
        about = self._about
        packages = ", ".join(self._environment.packages)
        return {
            "version": self._environment.version,
            "packages": packages,
            "settings": about["settings"],
            "history": about["history"],
        }

    @contextlib.contextmanager
    def producer(self, bench: Bench) -> Iterator[Producer]:
        """Start its program as a producer."""
        with contextlib.closing(Program(self._command("produce", bench))) as program:
            yield PeerProducer(program, bench.conn, self.enqueue_set)

    def start_worker(self, bench: Bench, *, is_listening: bool = False) -> Worker:
        """Start its program as a worker; it listens in any case."""
        del is_listening
        return PeerWorker(Program(self._command("work", bench)))

    def finished(self, bench: Bench) -> int:
        """Ask its own tables."""
        about = self._about
        query = about.get("finished") or about["left"]
        count = int(bench.conn.execute(query).fetchall()[0][0])
        return count if "finished" in about else bench.enqueued - count

    def span(self, bench: Bench, since: datetime) -> float | None:
        """Leave it to the clock, from the first handler's start to what its tables say."""
        del bench, since
        return None

    def _command(self, what: str, bench: Bench) -> list[str]:
        return self._environment.command(what, bench.dsn)


class Program:
    """A running program of a peer."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.hear()
        except BaseException:
            self.kill()
            raise

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send a line and wait for the answer."""
        self.tell(**order)
        return self.hear()

    def tell(self, **order: Any) -> None:
        """Send a line."""
        if self.process.stdin:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Read a line; a program that says nothing for long is ended."""
        watchdog = threading.Timer(HEAR_SECONDS, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline() if self.process.stdout else ""
        watchdog.cancel()
        if not line:
            raise RuntimeError(f"the program ended with {self.process.wait(STOP_SECONDS)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End its input, and it."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
                if self.process.stdin:
                    self.process.stdin.close()
                self.process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class PeerProducer:
    """Tells a peer's program what to enqueue."""

    def __init__(self, program: Program, conn: psycopg.Connection, enqueue_set: str) -> None:
        self._program = program
        self._conn = conn
        self._enqueue_set = enqueue_set

    def enqueue_documents(self, jobs: int) -> float:
        """Use what it has for many at once."""
        return float(self._program.ask(do="many", jobs=jobs)["seconds"])

    def enqueue_set(self, jobs: int) -> float:
        """Use its SQL, where it has any."""
        begun_at = time.perf_counter()
        for at in range(0, jobs, CALL_JOBS):
            self._conn.execute(self._enqueue_set.encode(), (min(CALL_JOBS, jobs - at),))
        return time.perf_counter() - begun_at

    def enqueue_singly(self, jobs: int, producers: int) -> float:
        """Use what it has for one, in as many tasks as producers."""
        answer = self._program.ask(do="singly", jobs=jobs, producers=producers)
        return float(answer["seconds"])

    def enqueue_steadily(self, jobs: int, rate: float) -> Stamps:
        """Use what it has for one within a transaction."""
        answer = self._program.ask(do="steadily", jobs=jobs, rate=rate)
        return {int(number): stamp for number, stamp in answer["stamps"].items()}


class PeerWorker:
    """A peer's program as a worker."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.pid = program.process.pid

    def let_go(self) -> None:
        """Send the first line."""
        self._program.tell(do="work")

    def stop(self) -> Stamps:
        """Send the second; each job must have been handled once."""
        answer = self._program.ask(do="stop")
        self._program.close()
        started = {int(number): stamp for number, stamp in answer["started"].items()}
        if answer["handled"] != len(started):
            raise RuntimeError(f"{answer['handled']} runs of {len(started)} jobs")
        return started

    def kill(self) -> None:
        """End it."""
        self._program.kill()
