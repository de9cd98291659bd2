"""What the tests of rebuilding indexes share: the indexes, and who holds them up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from .helpers import value

ARGS, META = "eram_jobs_args_index", "eram_jobs_meta_index"
REINDEX = "REINDEX INDEX CONCURRENTLY public."

# Of any table, toast apart.
INVALID = """
    select relations.relname
    from pg_index as definitions
    join pg_class as relations on relations.oid = definitions.indexrelid
    where not definitions.indisvalid
    order by relations.relname
"""


def file_of(conn: psycopg.Connection, index: str) -> int:
    """Return the number of the file that an index is in: a rebuilt one has another."""
    return value(conn, "select pg_relation_filenode(%s::regclass)", index)


@contextlib.contextmanager
def lock_held(conn: psycopg.Connection, table: str = "eram_job_specs") -> Iterator[None]:
    """Keep a concurrent build from its end: it waits for those who may use the replaced index."""
    with conn.transaction():
        conn.execute(f"lock table {table} in access share mode")
        yield
