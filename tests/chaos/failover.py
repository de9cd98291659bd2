"""A primary, and a standby that has everything that was acknowledged."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from chaos import database
from eram.embedded import EmbeddedServer

STANDBY = "standby"
PATIENCE = 60.0
SYNCHRONOUS = {"synchronous_standby_names": STANDBY, "synchronous_commit": "on"}


class Pair:
    """Two servers, the second of which follows the first until it is promoted.

    Args:
        primary: the first.
        standby: the second.
        first: when each schedule is due first.
    """

    def __init__(
        self, primary: EmbeddedServer, standby: EmbeddedServer, first: dict[str, datetime]
    ) -> None:
        self.primary = primary
        self.standby = standby
        self.first = first

    def dsn(self, role: str) -> str:
        """The way to whichever of them can be written to."""
        each = [conninfo_to_dict(server.dsn) for server in (self.primary, self.standby)]
        return make_conninfo(
            host=",".join(str(one["host"]) for one in each),
            port=",".join(str(one["port"]) for one in each),
            user=role,
            dbname="postgres",
            target_session_attrs="read-write",
        )

    def wait_until_synchronous(self) -> None:
        query = "select count(*) from pg_stat_replication where sync_state = 'sync'"
        deadline = time.monotonic() + PATIENCE
        with database.connect(self.primary.dsn) as conn:
            while conn.execute(query).fetchall() != [(1,)]:
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.05)

    def fail_over(self) -> None:
        """Lose the primary for good, and promote the standby."""
        self.primary.stop("immediate")
        with database.connect(self.standby.dsn) as conn:
            assert conn.execute("select pg_promote(true, 60)").fetchall() == [(True,)]


@contextlib.contextmanager
def start_pair(
    directory: Path, settings: dict[str, str], *, bin_dir: Path | None = None
) -> Iterator[Pair]:
    """Start both, with eram and what chaos needs in the database."""
    first, second = directory / "a", directory / "b"
    with EmbeddedServer(first, bin_dir=bin_dir, settings=settings) as server:
        with database.connect(server.dsn) as conn:
            schedules = database.set_up(conn)
        source = server.dsn
    # Not all servers bring pg_basebackup; one that was shut down can simply be copied.
    _copy(first / "data", second / "data")
    (second / "data" / "standby.signal").touch()
    host, port = (str(conninfo_to_dict(source)[name]) for name in ("host", "port"))
    follow = make_conninfo(host=host, port=port, user="postgres", application_name=STANDBY)
    primary = EmbeddedServer(first, bin_dir=bin_dir, settings=settings | SYNCHRONOUS)
    standby = EmbeddedServer(
        second, bin_dir=bin_dir, settings=settings | {"primary_conninfo": follow}
    )
    with primary, standby:
        pair = Pair(primary, standby, schedules)
        pair.wait_until_synchronous()
        yield pair


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    shutil.copytree(source, target)
    owner = source.stat()
    for path in [target, *target.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
