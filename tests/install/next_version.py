"""A next version of eram that never was, with a change of each kind, and the way to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from eram._server import extension

VERSION = extension.version()
# Servers share their folders with those of other runs of the tests.
NEXT = f"99.0.{os.getpid()}"
ROOT = Path(extension.__file__).resolve().parents[3]
GUARD = r"\echo Use this as a script of an extension. \quit"

TABLE = """create table eram_novelties (
    id   bigint not null generated always as identity,
    what text   not null default 'new',

    constraint eram_novelties_pkey primary key (id)
);
"""
CHECK = "alter table eram_novelties add constraint eram_novelties_check check (what <> '');\n"
TABLE_COMMENT = "comment on table eram_novelties is 'What is new.';\n"
INDEX = "create index eram_novelties_idx on eram_novelties (what) where what <> 'new';\n"
STORAGE = "alter table eram_novelties set (fillfactor = 70);\n"
GRANT = "grant select on eram_novelties to public;\n"
COLUMN = "    novelty       smallint not null default 7,\n"
COLUMN_COMMENT = "comment on column eram_queues.novelty is 'How new it is.';\n"
VIEW_COLUMN = "    errors.detail ->> 'traceback' as traceback"
TYPE = "create type eram_novelty_kind as enum ('new', 'newer');\n"

FUNCTION = """create or replace function eram_novelty(what text, count integer default 1)
    returns text
    language sql
    stable
    security definer
    set search_path from current
as $$
    select repeat(novelties.what, count)
    from eram_novelties as novelties
    where novelties.what = eram_novelty.what;
$$;

comment on function eram_novelty is 'What is new.';
"""
REVOKE = "revoke execute on function eram_novelty from public;"
TABLE_MARK = "perform pg_catalog.pg_extension_config_dump('eram_novelties', $q$where id > 9$q$);\n"
SEQUENCE_MARK = "perform pg_catalog.pg_extension_config_dump('eram_novelties_id_seq', '');\n"


def write_sources(folder: Path) -> Path:
    """Write the sources of the next version; return their folder."""
    sources = folder / "extension"
    shutil.copytree(ROOT / "extension", sources)
    control = (ROOT / "eram.control").read_text(encoding="utf-8")
    (sources / "eram.control").write_text(control.replace(f"'{VERSION}'", f"'{NEXT}'"))
    (sources / "upgrades").mkdir(exist_ok=True)
    new = TABLE + CHECK + TABLE_COMMENT + INDEX + STORAGE + GRANT + COLUMN_COMMENT + TYPE
    (sources / "schema" / "novelties.sql").write_text(new, encoding="utf-8")
    (sources / "functions" / "novelty.sql").write_text(FUNCTION, encoding="utf-8")
    edit(sources / "load-order", "\ngrants.sql", "\nfunctions/novelty.sql\ngrants.sql")
    edit(sources / "load-order", "schema/views.sql", "schema/novelties.sql\nschema/views.sql")
    edit(sources / "functions/version.sql", f"'{VERSION}'", f"'{NEXT}'")
    workers = sources / "functions/workers/workers.sql"
    edit(workers, "interval '15 seconds';", "interval '16 seconds';")
    # At the end, as a column that is added is; what follows are constraints.
    last = "    rescue_after  interval,\n"
    edit(sources / "schema/queues.sql", last, last + COLUMN)
    edit(sources / "schema/handlers.sql", "create index eram_handlers_alias", "-- create index")
    edit(sources / "schema/views.sql", VIEW_COLUMN, f"{VIEW_COLUMN},\n    errors.detail")
    first = "        perform pg_catalog.pg_extension_config_dump('eram_job_specs', '');\n"
    edit(sources / "grants.sql", first, first + TABLE_MARK + SEQUENCE_MARK)
    return sources


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def upgrade_script(sources: Path) -> str:
    """Return the right script from this version to the next."""
    views = (sources / "schema" / "views.sql").read_text(encoding="utf-8")
    view = views[views.index("create view eram_errors") :].split(";", 1)[0]
    changed = ("version.sql", "workers/workers.sql")
    texts = [(sources / "functions" / name).read_text() for name in changed]
    return "\n".join(
        [
            GUARD,
            "alter table eram_queues\n    add column novelty smallint not null default 7;",
            TABLE + CHECK + TABLE_COMMENT + INDEX + STORAGE + GRANT + COLUMN_COMMENT + TYPE,
            "drop index eram_handlers_alias_of_idx;",
            f"{view.replace('create view', 'create or replace view')};",
            *texts,
            FUNCTION,
            REVOKE,
            f"""
            do $$
            begin
                if exists (select from pg_catalog.pg_extension where extname = 'eram') then
                    {TABLE_MARK}
                    {SEQUENCE_MARK}
                end if;
            end;
            $$;
            """,
        ]
    )
