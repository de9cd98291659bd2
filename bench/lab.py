"""Where things are measured: a server of its own, fresh databases, meters for time, WAL and CPU."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psycopg
from sides import Side

from eram._server.extension import version
from eram.embedded import EmbeddedServer

# PostgreSQL's defaults, durable ones, but for what would let a checkpoint fall into a measurement.
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
# Who logs statements, as idling.py does, learns the transaction's id.
LOG_LINES = {"log_line_prefix": "%m [%p] %x "}
SHOWN = (*SETTINGS, "fsync", "synchronous_commit", "full_page_writes", "autovacuum", "wal_level")

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a meter has counted up to now."""

    seconds: float
    wal_bytes: int
    server_cpu: float | None

    def __sub__(self, earlier: Reading) -> Reading:
        has_cpu = self.server_cpu is not None and earlier.server_cpu is not None
        return Reading(
            seconds=self.seconds - earlier.seconds,
            wal_bytes=self.wal_bytes - earlier.wal_bytes,
            server_cpu=(self.server_cpu or 0) - (earlier.server_cpu or 0) if has_cpu else None,
        )


class Bench:
    """A fresh database of one side."""

    def __init__(self, dsn: str, log: Path) -> None:
        self.dsn = dsn
        self.log = log  # of the server
        self.enqueued = 0  # by the measurement, for sides that keep nothing
        self.conn = self.connect()
        self._bytes_before = self._bytes()
        self._postmaster = _parent(self.conn.info.backend_pid)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection:
        """Open a connection."""
        return psycopg.connect(self.dsn, autocommit=autocommit, prepare_threshold=0)

    def read(self) -> Reading:
        """Read the meters."""
        row = self.conn.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
        return Reading(
            seconds=time.perf_counter(),
            wal_bytes=int(row[0]) if row else 0,
            server_cpu=_cpu_with_children(self._postmaster),
        )

    def grown(self) -> int:
        """Return by how many bytes the database has grown."""
        return self._bytes() - self._bytes_before

    def _bytes(self) -> int:
        row = self.conn.execute("select pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0


class Lab:
    """A server, and a template database for each side."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.is_brief = False  # so that what is repeated within a measurement is repeated less
        self._server = server
        self._count = 0

    def install(self, side: Side) -> None:
        """Make the template of a side."""
        self._execute(f"create database template_{side.name}")
        side.install(self._dsn(f"template_{side.name}"))

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Self]:
        """Start the server for as long as the block."""
        with (
            tempfile.TemporaryDirectory(prefix="eram-bench-") as directory,
            EmbeddedServer(Path(directory), settings=SETTINGS | LOG_LINES) as server,
        ):
            yield cls(server)

    @contextlib.contextmanager
    def bench(self, side: Side) -> Iterator[Bench]:
        """Make a fresh database for as long as the block."""
        self._count += 1
        name = f"bench_{self._count}"
        self._execute(f"create database {name} template template_{side.name}")
        self._execute("checkpoint")
        bench = Bench(self._dsn(name), self._server.log)
        try:
            yield bench
        finally:
            bench.conn.close()
            self._execute(f"drop database {name} with (force)")

    def setup(self) -> dict[str, Any]:
        """Say what all was measured on."""
        with psycopg.connect(self._server.dsn, autocommit=True) as conn:
            query = "select name, current_setting(name) from pg_settings where name = any (%s)"
            settings: dict[str, str] = dict(conn.execute(query, (list(SHOWN),)).fetchall())
        return {
            "eram": version(),
            "server": self._server.version,
            "settings": settings,
            "python": platform.python_version(),
            "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 2),
            "machine": platform.machine(),
            "system": platform.system(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _dsn(self, database: str) -> str:
        # An address, not keywords: that is what the peers understand.
        return self._server.dsn.replace("/postgres?", f"/{database}?", 1)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.dsn, autocommit=True) as conn:
            conn.execute(statement.encode())


def cpu(pid: int) -> float | None:
    """Return the seconds of CPU that a process has used, where the system tells."""
    fields = _stat(pid)
    return None if fields is None else sum(map(int, fields[11:13])) / TICKS


def _cpu_with_children(pid: int | None) -> float | None:
    """Return the CPU of a process and its children, those that have ended included."""
    own = None if pid is None else _stat(pid)
    while own is not None:
        ticks = sum(map(int, own[11:15]))
        for directory in Path("/proc").glob("[0-9]*"):
            fields = _stat(int(directory.name))
            if fields and int(fields[1]) == pid:
                ticks += sum(map(int, fields[11:13]))
        # One that ended meanwhile may have been counted twice, or not at all.
        was, own = own, _stat(pid or 0)
        if own is not None and was[13:15] == own[13:15]:
            return ticks / TICKS
    return None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def _stat(pid: int) -> list[str] | None:
    """Read what follows the name in /proc/PID/stat: state, parent, ..., utime, stime, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
