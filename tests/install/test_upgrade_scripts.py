"""An upgraded eram is what a fresh one is; if it is not, the comparison says where.

There is one real version so far, so most of this is about a next one that never was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from eram._server import extension
from eram.install import install
from eram.upgrade import upgrade
from install.next_version import (
    CHECK,
    COLUMN_COMMENT,
    FUNCTION,
    GRANT,
    INDEX,
    NEXT,
    REVOKE,
    ROOT,
    SEQUENCE_MARK,
    STORAGE,
    TABLE_COMMENT,
    TABLE_MARK,
    VERSION,
    upgrade_script,
    write_sources,
)
from upgrade_drafts import draft
from upgrades import Described, described, differences

Upgraded = Callable[[str], Described]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("next"))


@pytest.fixture
def next_release(sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this package be the next version."""
    monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
    return sources


@pytest.fixture
def fresh(create_bare_database, next_release, server_folder) -> Iterator[Described]:
    """What CREATE EXTENSION makes of the next version."""
    script = server_folder / f"eram--{NEXT}.sql"
    script.write_text(extension.install_script(), encoding="utf-8")
    script.chmod(0o644)
    try:
        with psycopg.connect(create_bare_database(), autocommit=True) as conn:
            conn.execute(f"create extension eram version '{NEXT}'")
            yield described(conn, "public")
    finally:
        script.unlink()


@pytest.fixture
def upgraded(conn: psycopg.Connection, server_folder: Path) -> Iterator[Upgraded]:
    """Upgrade an extension by a script, and return what it then is; it is undone afterwards."""
    path = server_folder / f"eram--{VERSION}--{NEXT}.sql"

    def run(script: str) -> Described:
        path.write_text(script, encoding="utf-8")
        path.chmod(0o644)
        with conn.transaction(force_rollback=True):
            conn.execute(f"alter extension eram update to '{NEXT}'")
            return described(conn, "public")

    yield run
    path.unlink(missing_ok=True)


def test_right_script_leads_to_what_a_fresh_extension_is(fresh, upgraded, sources):
    found = upgraded(upgrade_script(sources))
    assert differences(found, fresh) == []
    for what in (
        "extension eram",
        "function eram_novelty(what text, count integer)",
        "relation eram_novelties",
        "column eram_queues.novelty",
        "place of column eram_queues.novelty",
        "constraint eram_novelties_check of eram_novelties",
        "type eram_novelty_kind",
        "owner of sequence eram_novelties_id_seq",
        "dump mark of eram_novelties",
        "dump mark of eram_job_specs",
        "membership of function eram_novelty(pg_catalog.text,integer)",
    ):
        assert what in found


# What is done wrong, and what the comparison says of it among other things.
BROKEN = [
    ("interval '16 seconds';", "interval '15 seconds';", "function _eram_heartbeat_gap(): prosrc"),
    (
        REVOKE,
        "drop function eram_novelty;",
        "function eram_novelty(what text, count integer): is missing",
    ),
    (FUNCTION, FUNCTION.replace("stable", "volatile"), "provolatile is"),
    (FUNCTION, FUNCTION.replace("security definer", "", 1), "count integer): prosecdef is"),
    (FUNCTION, FUNCTION.replace("set search_path from current", ""), "count integer): proconfig"),
    ("count integer default 1", "count integer default 2", "arguments is"),
    ("count integer default 1", "size integer default 1", "should not be there"),
    ("comment on function eram_novelty is 'What is new.';", "", "comment is null, not "),
    (REVOKE, "", "function eram_novelty(what text, count integer): proacl is"),
    (
        "add column novelty smallint not null default 7;",
        "add column novelty smallint not null;",
        "column eram_queues.novelty: default is null",
    ),
    ("smallint not null default 7", "smallint not null default 8", "column eram_queues.novelty: d"),
    ("novelty smallint not null", "novelty smallint", "column eram_queues.novelty: attnotnull"),
    ("novelty smallint", "novelty integer", "column eram_queues.novelty: type is"),
    (COLUMN_COMMENT, "", "column eram_queues.novelty: comment is null"),
    (TABLE_COMMENT, "", "relation eram_novelties: comment is null"),
    (CHECK, "", "constraint eram_novelties_check of eram_novelties: is missing"),
    (CHECK, CHECK.replace("''", "'x'"), "eram_novelties_check of eram_novelties: definition is"),
    (INDEX, "", "relation eram_novelties_idx: is missing"),
    (INDEX, INDEX.replace("'new'", "'old'"), "relation eram_novelties_idx: index is"),
    (STORAGE, "", "relation eram_novelties: reloptions is null"),
    (GRANT, "", "relation eram_novelties: relacl is"),
    (GRANT, f"{GRANT}grant insert on eram_novelties to public;", "eram_novelties: relacl is"),
    ("default 'new',", "default 'old',", "column eram_novelties.what: default is"),
    ("always as identity", "by default as identity", "column eram_novelties.id: attidentity is"),
    ("as identity", "as identity (increment by 2)", "relation eram_novelties_id_seq: sequence is"),
    ("('new', 'newer')", "('newer', 'new')", "type eram_novelty_kind: labels is"),
    ("drop index eram_handlers_alias_of_idx;", "", "eram_handlers_alias_of_idx: should not be"),
    (
        "drop index eram_handlers_alias_of_idx;",
        "drop table eram_unscheduled;",
        "eram_unscheduled: ",
    ),
    (",\n    errors.detail\n", "\n", "column eram_errors.detail: is missing"),
    (TABLE_MARK, "", "dump mark of eram_novelties: is missing"),
    ("$q$where id > 9$q$", "''", "dump mark of eram_novelties: condition is"),
    (SEQUENCE_MARK, "", "dump mark of eram_novelties_id_seq: is missing"),
    (
        "do $$\n            begin",
        "alter extension eram drop function eram_novelty(text, integer);\ndo $$ begin",
        "membership of function eram_novelty(pg_catalog.text,integer): is missing",
    ),
    (
        "do $$\n            begin",
        "alter table eram_queues add column later text; do $$ begin",
        "place of column eram_queues.later: should not be there",
    ),
]


@pytest.mark.parametrize("part", range(4))
def test_whatever_a_script_does_wrong_is_found(fresh, upgraded, sources, part):
    right = upgrade_script(sources)
    for old, new, said in BROKEN[part::4]:
        assert old in right, old
        found = differences(upgraded(right.replace(old, new, 1)), fresh)
        assert any(said in line for line in found), (old, new, found)


def test_place_of_a_column_counts(fresh, upgraded, sources):
    """A row as a whole, and a view of all columns, depend on it."""
    right = upgrade_script(sources)
    text = "add column novelty smallint not null default 7;"
    wrong = right.replace(
        text, f"drop column rescue_after, {text[:-1]}, add rescue_after interval;"
    )
    assert wrong != right
    found = differences(upgraded(wrong), fresh)
    assert "place of column eram_queues.novelty: place is 10, not 11" in found
    assert "place of column eram_queues.rescue_after: place is 11, not 10" in found


def test_what_was_added_and_dropped_again_leaves_no_difference(fresh, upgraded, sources):
    again = "alter table eram_queues add column extra text default 'x', add column more text;\n"
    more = "alter table eram_queues drop column extra;\n"
    script = upgrade_script(sources).replace("alter table eram_queues\n", f"{again}{more}\\g", 1)
    script = script.replace("\\g", "alter table eram_queues drop column more,\n", 1)
    assert differences(upgraded(script), fresh) == []


def test_plain_install_becomes_what_a_fresh_one_is(create_bare_database, sources, monkeypatch):
    old, new = create_bare_database(), create_bare_database()
    with psycopg.connect(old, autocommit=True) as conn, psycopg.connect(new) as other:
        install(conn, schema="jobs")
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        script = sources / "upgrades" / f"eram--{VERSION}--{NEXT}.sql"
        script.write_text(upgrade_script(sources), encoding="utf-8")
        assert upgrade(conn).version == NEXT
        install(other, schema="jobs")
        assert differences(described(conn, "jobs"), described(other, "jobs")) == []
        script.unlink()


def test_draft_has_all_functions_and_names_the_rest(create_bare_database, sources, monkeypatch):
    """With the steps for tables put in, it is a right script."""
    old, new = create_bare_database(), create_bare_database()
    with psycopg.connect(old, autocommit=True) as conn, psycopg.connect(new) as other:
        install(conn)
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        install(other)
        before, wanted = described(conn, "public"), described(other, "public")
        text = draft(before, wanted, sources=sources)
        for line in (
            "--   add relation eram_novelties\n",
            "--   add column eram_queues.novelty\n",
            "--   drop relation eram_handlers_alias_of_idx\n",
            "--   change relation eram_errors\n",
        ):
            assert line in text
        assert "eram_fetch" not in text
        by_hand = upgrade_script(sources)
        by_hand = by_hand[: by_hand.index("-- Which eram this is.")]
        script = text.replace("\n-- To be written", f"{by_hand}\n-- To be written", 1)
        (sources / "upgrades" / f"eram--{VERSION}--{NEXT}.sql").write_text(script)
        role = f"{conn.info.dbname}_clerk"
        conn.execute(f"create role {role}; select eram_grant('{role}', 'work')")
        # What the owner gives to everyone who comes is not for what eram makes.
        conn.execute(f"""
            create role {role}_reader;
            alter default privileges grant execute on functions to {role}_reader;
            alter default privileges grant select on tables to {role}_reader;
        """)
        rights = f"""
            select count(*)
            from pg_proc
            cross join aclexplode(proacl) as rights
            where rights.grantee = '{role}'::regrole
        """
        granted = conn.execute(rights).fetchall()
        assert upgrade(conn).version == NEXT
        kept = conn.execute(rights).fetchall()
        conn.execute(f"drop owned by {role}, {role}_reader; drop role {role}, {role}_reader")
        # Nobody loses what was granted to him.
        assert kept == granted
        assert granted[0][0] > 5
        assert differences(described(conn, "public"), wanted) == []
        (sources / "upgrades" / f"eram--{VERSION}--{NEXT}.sql").unlink()


def test_draft_drops_what_cannot_be_replaced(create_bare_database, tmp_path, monkeypatch):
    sources = tmp_path / "extension"
    shutil.copytree(ROOT / "extension", sources)
    path = sources / "functions" / "version.sql"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("eram_version()", "eram_version(of text default 'me')", 1))
    old, new = create_bare_database(), create_bare_database()
    with psycopg.connect(old, autocommit=True) as conn, psycopg.connect(new) as other:
        install(conn)
        shutil.copy(ROOT / "eram.control", sources)
        monkeypatch.setattr(extension, "_sql_directory", lambda: sources)
        install(other)
        found = [described(each, "public") for each in (conn, other)]
        assert "\ndrop routine eram_version();\n" in draft(*found, sources=sources)
