"""A database of the census's own, made anew for each run."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from eram.install import install

NAME = "eram_census"
COMMENT = "Made by examples/census of eram, which drops it at its next run."

TABLES = Path(__file__).with_name("tables.sql")


class CensusError(Exception):
    """The census cannot go on; the message says why."""


def create(dsn: str) -> str:
    """Make the database on the server of this DSN, with eram in it; return how to connect to it."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        _drop(conn)
        conn.execute(f"create database {NAME} template template0 encoding 'UTF8'")
        conn.execute(f"comment on database {NAME} is '{COMMENT}'")
    own = make_conninfo(dsn, dbname=NAME)
    with psycopg.connect(own) as conn:
        query = "select from pg_available_extensions where name = 'eram'"
        if conn.execute(query).fetchone() is None:
            install(conn)  # from here: the server's own files do not have it
        else:
            conn.execute("create extension eram")
        conn.execute(TABLES.read_bytes())
    return own


def _drop(conn: psycopg.Connection) -> None:
    found = conn.execute(
        "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", (NAME,)
    ).fetchone()
    if found is None:
        return
    if found[0] != COMMENT:
        raise CensusError(f"there is a database {NAME} on this server that the census did not make")
    try:
        conn.execute(f"drop database {NAME}")
    except psycopg.errors.ObjectInUse as error:
        raise CensusError(
            f"the database {NAME} of an earlier census is in use ({error.diag.message_detail});"
            " leave it (a psql? another census?) and start again"
        ) from error
