"""`python -m eram metrics`: what Prometheus reads, on the screen or in a file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from eram.__main__ import main


def families(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_it_prints_what_is_measured(conn, dsn):
    conn.execute("select eram_enqueue_job('app:run', queue => 'ma\"il')")
    command = [sys.executable, "-m", "eram", "metrics"]
    done = subprocess.run(
        command, env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.endswith("\n")
    found = families(done.stdout)
    assert found["eram_queue_waiting_jobs"] == {('ma"il',): 1}
    names = {row[0] for row in conn.execute("select distinct name from eram_metrics")}
    assert {name.removesuffix("_total") for name in names} == found.keys()


def test_a_file_is_replaced_at_once(dsn, tmp_path, capsys):
    path = tmp_path / "eram.prom"
    path.write_text("what was there before")
    reader = path.open()
    assert main(["metrics", "--dsn", dsn, "--output", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert families(path.read_text())["eram_info"]
    # Who has begun to read goes on.
    assert reader.read() == "what was there before"
    reader.close()
    assert [each.name for each in tmp_path.iterdir()] == ["eram.prom"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_cannot_be_written(dsn, tmp_path, capsys):
    assert main(["metrics", "--dsn", dsn, "--output", str(tmp_path / "no" / "eram.prom")]) == 1
    assert "eram metrics: the answer is lost: " in capsys.readouterr().err


def test_the_rights_that_it_takes(conn, dsn, capsys):
    role = f"{conn.info.dbname}_scraper"
    conn.execute(f"create role {role} login password 'secret'")
    try:
        through = make_conninfo(dsn, user=role, password="secret")
        assert main(["metrics", "--dsn", through]) == 1
        said = capsys.readouterr()
        assert "select eram_grant('ROLE', 'read')" in said.err
        assert said.out == ""
        conn.execute(f"select eram_grant('{role}', 'read')")
        assert main(["metrics", "--dsn", through]) == 0
        assert families(capsys.readouterr().out)["eram_health_level"]
    finally:
        conn.execute(f"drop owned by {role}")
        conn.execute(f"drop role {role}")


def test_a_database_without_eram(server, capsys):
    nowhere = make_conninfo(
        user=server.user,
        host=server.host,
        port=server.port,
        password=server.password,
        dbname="postgres",
    )
    assert main(["metrics", "--dsn", nowhere]) == 2
    assert "eram is not installed in the database" in capsys.readouterr().err


def test_a_schema_of_its_own(server, dsn, capsys):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("drop extension eram")
        conn.execute("create schema jobs")
        conn.execute("create extension eram schema jobs")
        try:
            assert main(["metrics", "--dsn", make_conninfo(dsn, options="-csearch_path=jobs")]) == 0
            assert families(capsys.readouterr().out)["eram_info"]
        finally:
            conn.execute("drop extension eram")
            conn.execute("drop schema jobs")
            conn.execute("create extension eram")
