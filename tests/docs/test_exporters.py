"""postgres_exporter with eram's queries: it says what eram_metrics says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import conninfo_to_dict
from reader import POSTGRES_EXPORTER

from eram._server.exposition import QUERY, exposition

PROJECT = Path(__file__).parents[2]
PATIENCE = 60
WORK = """
    select eram_start_worker('w', '{default,mail}', pg_backend_pid());
    select eram_enqueue_job('app:run') from generate_series(1, 3);
    select eram_enqueue_job('app:run', queue => 'ma"il') from generate_series(1, 3);
    select eram_tick();
    select eram_complete_jobs(array_agg(id), array_agg(run)) from eram_fetch('default', 2, 1);
    select eram_pause_queue('mail');
    update eram_schedules set next_run_at = now() where name = 'eram:recorder';
    select eram_tick();
"""
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(text: str) -> tuple[Samples, dict[str, tuple[str, str]]]:
    """Return the samples of eram by name, and what is said of each family."""
    samples: Samples = {}
    said = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("eram_"):
                # The exporter adds where it has them from.
                labels = sorted((k, v) for k, v in sample.labels.items() if k != "server")
                samples.setdefault(sample.name, {})[tuple(labels)] = sample.value
                said[sample.name] = (family.type, family.documentation)
    return samples, said


@pytest.fixture
def scraped(dsn: str, tmp_path: Path) -> Iterator[str]:
    """What a postgres_exporter says of a database in use, by a role that may only read."""
    program = shutil.which("prometheus-postgres-exporter")
    if program is None:
        if os.environ.get("ERAM_REQUIRE_POSTGRES_EXPORTER"):
            pytest.fail("this run must have postgres_exporter, and there is none")
        pytest.skip("there is no postgres_exporter; CI has it")
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in WORK.split(";")[:-1]:
            conn.execute(statement)
        role = f"{conn.info.dbname}_exporter"
        conn.execute(f"create role {role} login password 'secret'")
        conn.execute(f"select eram_grant('{role}', 'read')")
        try:
            yield _scrape(program, dsn, role, tmp_path / "log")
        finally:
            conn.execute(f"drop owned by {role}; drop role {role}")


def _scrape(program: str, dsn: str, role: str, log: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    place = conninfo_to_dict(dsn)
    url = f"postgresql://{role}:secret@{place['host']}:{place['port']}/{place['dbname']}"
    with log.open("w") as said:
        process = subprocess.Popen(
            [program, *POSTGRES_EXPORTER, f"--web.listen-address={address}"],
            cwd=PROJECT,
            env={**os.environ, "DATA_SOURCE_NAME": f"{url}?sslmode=disable"},
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as page:
                    return str(page.read().decode())
            except urllib.error.URLError:
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_postgres_exporter_says_what_eram_metrics_says(scraped, conn):
    found, said_there = read(scraped)
    expected, said_here = read(exposition(conn.execute(QUERY).fetchall()))
    # A row without a figure would be told as one that is not a number.
    del expected["eram_info"], said_here["eram_info"]
    assert found.keys() == expected.keys()
    assert said_there == said_here
    for name, samples in expected.items():
        assert found[name].keys() == samples.keys(), name
        if not name.endswith(("_seconds", "_bytes", "_rows", "_transactions")):
            assert found[name] == samples, name
    assert "eram_exporter_last_scrape_error 1" not in scraped
