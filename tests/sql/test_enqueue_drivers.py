"""`select eram_enqueue_job($1)` from drivers that type parameters each in their own way."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg.types.json import Json, Jsonb

from .helpers import row

DOCUMENT = {"handler": "app:run", "args": {"text": 'O\'Brien said "$1" ü'}}
TEXT = json.dumps(DOCUMENT)
NODE_SCRIPT = """
const { Client } = require('pg');
(async () => {
    const client = new Client({ connectionString: process.argv[2] });
    await client.connect();
    const text = process.argv[3];
    const ids = [];
    for (const parameter of [text, JSON.parse(text), '  ' + text]) {
        const answer = await client.query('select eram_enqueue_job($1)', [parameter]);
        ids.push(answer.rows[0].eram_enqueue_job);
    }
    const named = await client.query({
        name: 'enqueue', text: 'select eram_enqueue_job($1) as id', values: [text],
    });
    ids.push(named.rows[0].id);
    console.log(ids.join(' '));
    await client.end();
})().catch((error) => { console.error(error); process.exit(1); });
"""


def assert_enqueued(conn: psycopg.Connection, job_id: int) -> None:
    job = row(conn, "select * from eram_jobs where id = %s", job_id)
    assert (job.handler, job.args) == (DOCUMENT["handler"], DOCUMENT["args"])


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "parameter", [TEXT, Json(DOCUMENT), Jsonb(DOCUMENT)], ids=["text", "json", "jsonb"]
)
def test_psycopg(conn, cursor, binary, parameter):
    """Bound by the server, by the client, and with plain $1."""
    query = (
        "select eram_enqueue_job($1)"
        if cursor is psycopg.RawCursor
        else "select eram_enqueue_job(%s)"
    )
    if isinstance(parameter, Json):
        query = query.replace(")", "::jsonb)")
    options = {} if cursor is psycopg.ClientCursor else {"binary": binary}
    (job_id,) = cursor(conn).execute(query, [parameter], **options).fetchone()
    assert_enqueued(conn, job_id)


def test_a_prepared_statement_takes_both_forms(conn):
    for _ in range(8):
        (job_id,) = conn.execute("select eram_enqueue_job(%s)", [TEXT], prepare=True).fetchone()
        assert_enqueued(conn, job_id)
        (job_id,) = conn.execute(
            "select eram_enqueue_job(%s)", ["app:run"], prepare=True
        ).fetchone()
        assert row(conn, "select * from eram_jobs where id = %s", job_id).args == {}


def test_the_simple_protocol_with_an_unknown_literal(conn):
    """Several statements at once are only possible in the simple protocol."""
    literal = TEXT.replace("'", "''")
    conn.execute(f"set synchronous_commit = off; select eram_enqueue_job('{literal}')")
    assert_enqueued(conn, row(conn, "select id from eram_jobs").id)


def test_a_parameter_without_a_type(conn):
    """The extended protocol's own way to say "unknown": type OID 0, in text."""
    result = conn.pgconn.exec_params(b"select eram_enqueue_job($1)", [TEXT.encode()], [0])
    assert not result.error_message
    assert_enqueued(conn, int(result.get_value(0, 0)))


@pytest.mark.parametrize("statement_cache_size", [0, 100])
def test_asyncpg(conn, dsn, statement_cache_size):
    async def enqueue() -> list[int]:
        client = await asyncpg.connect(dsn, statement_cache_size=statement_cache_size)
        try:
            ids = [
                await client.fetchval("select eram_enqueue_job($1)", TEXT),
                await client.fetchval("select eram_enqueue_job($1::jsonb)", TEXT),
            ]
            found = await client.fetch("select id from eram_enqueue_jobs($1)", f"[{TEXT}, {TEXT}]")
            return ids + [record["id"] for record in found]
        finally:
            await client.close()

    ids = asyncio.run(enqueue())
    assert len(set(ids)) == 4
    for job_id in ids:
        assert_enqueued(conn, job_id)


@pytest.fixture(scope="session")
def node_postgres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with node-postgres in it; ERAM_REQUIRE_NODE=1 forbids to skip."""
    is_required = bool(os.environ.get("ERAM_REQUIRE_NODE"))
    folder = tmp_path_factory.mktemp("node")
    if shutil.which("npm") is None or shutil.which("node") is None:
        if is_required:
            pytest.fail("this run must have node and npm, and there are none")
        pytest.skip("there is no node or npm on the PATH; CI has them")
    options = ("--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    installed = subprocess.run(
        ["npm", "install", *options, "pg@8"],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if installed.returncode != 0:
        if is_required:
            pytest.fail(f"npm could not install pg: {installed.stderr}")
        pytest.skip("npm could not install pg (no registry in reach?)")
    (folder / "enqueue.js").write_text(NODE_SCRIPT, encoding="utf-8")
    return folder


def test_node_postgres(conn, dsn, node_postgres):
    """As text, as an object that the driver makes JSON of, and as a named statement."""
    done = subprocess.run(
        ["node", "enqueue.js", dsn, TEXT],
        check=False,
        capture_output=True,
        text=True,
        cwd=node_postgres,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ids = [int(job_id) for job_id in done.stdout.split()]
    assert len(set(ids)) == 4
    for job_id in ids:
        assert_enqueued(conn, job_id)
