"""The SQL API in databases of other encodings and locales than the usual ones."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from sql.helpers import value
from sql.role_helpers import Place

from .places import ODD
from .test_odd_settings import tell

# What the database is made with, and the first server that can.
KINDS = {
    "Latin 1": ("encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'", 14),
    "Cyrillic": ("encoding 'WIN1251' lc_collate 'C' lc_ctype 'C'", 14),
    "Japanese": ("encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C'", 14),
    "none at all": ("encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'", 14),
    "C.utf8": ("encoding 'UTF8' lc_collate 'C.utf8' lc_ctype 'C.utf8'", 14),
    # An i without a dot is not the lower case of I there, and does not sort beside it.
    "Turkish": ("encoding 'UTF8' locale_provider icu icu_locale 'tr-TR' locale 'C'", 15),
    # Neither case nor punctuation counts when it sorts.
    "shifted": (
        "encoding 'UTF8' locale_provider icu icu_locale 'und-u-ka-shifted-ks-level1' locale 'C'",
        15,
    ),
    "built in": ("encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'", 17),
}


@pytest.fixture
def place(server, request) -> Iterator[Place]:
    options, first_version = KINDS[request.param]
    dsn = make_conninfo(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname="postgres",
        client_encoding="utf8",
    )
    name = sql.Identifier("other_encoding")
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.info.server_version < first_version * 10_000:
            pytest.skip(f"PostgreSQL {first_version} is the first that has it")
        make = sql.SQL("create database {} template template0 ").format(name)
        try:
            conn.execute(make.as_bytes() + options.encode())
        except errors.FeatureNotSupported as error:
            pytest.skip(f"this server was built without it: {error}")
        try:
            place = Place(make_conninfo(dsn, dbname="other_encoding"), ODD)
            try:
                create = "create extension eram schema {}"
                place.owner.execute(sql.SQL(create).format(sql.Identifier(ODD)))
                yield place
            finally:
                place.close()
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_the_story_is_the_same(place):
    place.admin.execute("create table public.marks (n int); grant all on public.marks to public")
    tell(place.connect(place.owner_role))
    assert place.owner.execute("select * from eram_check()").fetchall() == []


WORDS = [
    "I",
    "i",
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    "\N{LATIN SMALL LETTER DOTLESS I}",
    "a-b",
    "ab",
    "A b",
    "straße",
    "STRASSE",
]


@pytest.mark.parametrize("place", ["Turkish", "shifted", "built in", "C.utf8"], indirect=True)
def test_names_that_sort_alike_are_different_names(place):
    """Queues, handlers and unique keys are compared by what they are, not by how they sort."""
    owner = place.owner
    for word in WORDS:
        owner.execute("select eram_set_queue(%s, priority => 1)", [word])
        for _ in range(2):
            owner.execute(
                "select eram_enqueue_job('a:b', '{}', %s, unique_by => %s)",
                [word, '{"fields": ["queue"]}'],
            )
    found = owner.execute("select queue, count(*) from eram_jobs group by queue").fetchall()
    assert dict(found) == dict.fromkeys(WORDS, 1)
    worker = value(owner, "select eram_start_worker('w', %s, 1)", WORDS)
    for word in WORDS:
        rows = owner.execute("select queue from eram_fetch(%s, 10, %s)", [word, worker]).fetchall()
        assert rows == [(word,)]
    assert owner.execute("select * from eram_check()").fetchall() == []
