"""A full disk: the server is there, and can store nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import outage_jobs
import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, job_of
from outage_helpers import ALLOW, LOST, Watch
from psycopg.conninfo import make_conninfo

MEGABYTES = 40
JOBS = 20


class SmallDisk:
    """A file system of its own, that a file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """A small disk in memory, which only root can mount."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a disk that is small enough to be filled")
    with tempfile.TemporaryDirectory(prefix="eram-disk-") as folder:
        options = f"size={MEGABYTES}m,mode=777"
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", options, "eram-test", folder],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"root may not mount here: {done.stderr.strip()}")
        Path(folder).chmod(0o777)
        try:
            yield SmallDisk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def small_dsn(crash_server, disk):
    """A database whose tables lie on the small disk; its log (WAL) lies elsewhere."""
    server = crash_server(autovacuum="off")
    folder = disk.folder / "tables"
    folder.mkdir()
    owner = (server.data / "PG_VERSION").stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"create tablespace small location '{folder}'")
        admin.execute("create database small tablespace small")
    dsn = make_conninfo(server.dsn, dbname="small")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create extension eram")
        conn.execute("create table effects (job_id bigint, ballast text)")
    yield dsn
    # The server must be able to shut down.
    server.stop("immediate")


def test_full_disk(small_dsn, disk, start_worker, caplog):
    """What has ended waits to be reported; it is neither failed nor lost."""
    watch = Watch(caplog)
    with psycopg.connect(small_dsn, autocommit=True) as conn:
        names = [f"{number}" for number in range(JOBS)]
        held = [outage_jobs.hold.enqueue(conn, name=name, size=5000).id for name in names]
        cut = outage_jobs.insert_and_hold.options(queue="held").enqueue(conn, name="cut").id
        worker = start_worker(
            small_dsn, queues={"default": JOBS, "held": 1}, allow=ALLOW, poll_interval=0.1
        )
        for name in (*(f"{name} 1" for name in names), "cut"):
            assert sample_jobs.started[name].wait(PATIENCE)
        disk.fill()
        for name in (*(f"{name} 1" for name in names), "cut"):
            sample_jobs.gates[name].set()
        eventually(lambda: watch.lines(logging.WARNING, "No space left on device"))
        watch.wait_for_tries(5)
        assert set(held) & set(worker.unreported)
        states = {job_of(conn, job_id)["state"] for job_id in held}
        assert "executing" in states
        assert states <= {"executing", "completed"}
        assert worker.id

        disk.clear()
        eventually(lambda: {job_of(conn, job_id)["state"] for job_id in held} == {"completed"})
        jobs = [job_of(conn, job_id) for job_id in held]
        assert {(job["result"]["run"], job["attempt"], job["errors"] is None) for job in jobs} == {
            (1, 1, True)
        }
        eventually(lambda: job_of(conn, cut)["state"] == "completed")
        assert conn.execute("select count(*) from effects").fetchone() == (1,)
        eventually(lambda: worker.unreported == [])
        watch.wait_for_end()
        assert len(watch.lines(logging.WARNING, LOST)) == 1
        assert conn.execute("select * from eram_check()").fetchall() == []
