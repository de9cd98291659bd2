"""A PgBouncer of the test's own, in transaction mode, which can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import PATIENCE, eventually
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eram.embedded import as_ordinary_user

PORT = 6432  # part of the socket's name


class PgBouncer:
    """Lies before one database; ERAM_REQUIRE_PGBOUNCER=1 forbids to skip where there is none."""

    def __init__(self, dsn: str, folder: Path, **settings: object) -> None:
        # Debian has it where only root looks.
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            if os.environ.get("ERAM_REQUIRE_PGBOUNCER"):
                pytest.fail("this run must have PgBouncer, and there is none")
            pytest.skip("there is no PgBouncer; CI has it")
        self._program = program
        self._folder = folder
        folder.chmod(0o777)
        self._settings = folder / "pgbouncer.ini"
        self._settings.write_text(
            f"""
            [databases]
            pooled = {make_conninfo(**conninfo_to_dict(dsn))}
            [pgbouncer]
            pool_mode = transaction
            auth_type = any
            listen_addr =
            listen_port = {PORT}
            unix_socket_dir = {folder}
            """
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        self.dsn = f"host={folder} port={PORT} user=anyone dbname=pooled"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = self._folder / "log"
        with path.open("a") as log:
            process = self._process = subprocess.Popen(
                [*as_ordinary_user(), self._program, str(self._settings)], stdout=log, stderr=log
            )
        socket = self._folder / f".s.PGSQL.{PORT}"
        eventually(lambda: process.poll() is not None or socket.exists())
        assert process.poll() is None, path.read_text()

    def stop(self) -> None:
        """Kill it, which ends all sessions."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None
            (self._folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)


@contextmanager
def pgbouncer_before(dsn: str, **settings: object) -> Iterator[PgBouncer]:
    """Have one that runs."""
    # Short, because a socket lies there.
    with tempfile.TemporaryDirectory(prefix="eram-") as folder:
        pooler = PgBouncer(dsn, Path(folder), **settings)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()
