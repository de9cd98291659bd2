"""Drafts of upgrade scripts: what can be told from the sources is written, the rest is listed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

GUARD = '\\echo Use "ALTER EXTENSION eram UPDATE" to load this file. \\quit'
FUNCTION = re.compile(r"^create or replace (?:function|procedure) (\w+)\(", re.MULTILINE)

# As in grants.sql: a plain installation has no marks.
MARKS = """
-- The rows of an extension's tables are dumped only if it says so.
do $$
begin
    if exists (
        select
        from pg_catalog.pg_depend as membership
        where
            membership.classid = 'pg_catalog.pg_class'::regclass
            and membership.objid = 'eram_job_specs'::regclass
            and membership.deptype = 'e'
    ) then
{lines}    end if;
end;
$$;
"""

# As in grants.sql, of what is new alone: also what default privileges of the owner would give.
RIGHTS = """
-- Nobody but the owner may call or read these until he grants it.
do $$
declare
    v_given record;
begin
    for v_given in
        select
            given.kind,
            given.name,
            coalesce(quote_ident(roles.rolname), 'public') as grantee
        from (
            select
                'routine' as kind,
                functions.oid::regprocedure::text as name,
                functions.proowner as owner,
                rights.grantee
            from pg_catalog.pg_proc as functions
            cross join lateral aclexplode(
                coalesce(functions.proacl, acldefault('f', functions.proowner))) as rights
            where
                functions.pronamespace = quote_ident(current_schema())::regnamespace
                and format(
                    '%s(%s)',
                    functions.proname,
                    pg_get_function_identity_arguments(functions.oid)) = any ({routines}::text[])
            union all
            select
                case relations.relkind when 'S' then 'sequence' else 'table' end,
                relations.oid::regclass::text,
                relations.relowner,
                rights.grantee
            from unnest({relations}::text[]) as made (name)
            join pg_catalog.pg_class as relations on relations.oid = to_regclass(made.name)
            cross join lateral aclexplode(relations.relacl) as rights
            where relations.relkind in ('r', 'v', 'S')
        ) as given
        left join pg_catalog.pg_roles as roles on roles.oid = given.grantee
        where
            given.grantee <> given.owner
            and (given.kind = 'routine' or given.grantee <> 0)
    loop
        execute format(
            'revoke all on %s %s from %s', v_given.kind, v_given.name, v_given.grantee);
    end loop;
end;
$$;
"""

Described = Mapping[str, Mapping[str, Any]]


def draft(old: Described, new: Described, *, sources: Path) -> str:
    """Write a script from one version to another, of which parts may be left to be written.

    Args:
        old: the objects of the one, as upgrades.py describes them.
        new: those of the other.
        sources: the folder of the SQL of the other.
    """
    changed = {what for what in old.keys() | new.keys() if old.get(what) != new.get(what)}
    functions = {what for what in changed if what.startswith("function ")}
    made = sorted(what for what in changed - old.keys() if what.startswith("relation "))
    # With a new table come its columns, its type and its indexes.
    parts = [f" {what.split()[1]}" for what in made]
    rest = sorted(
        what for what in changed - functions - set(made) if not any(part in what for part in parts)
    )
    # What others have planted since the install would be run by whoever upgrades.
    text = f"{GUARD}\n{(sources / 'schema' / 'traps.sql').read_text(encoding='utf-8')}"
    if made or rest:
        text += "\n-- To be written, because rows and locks depend on how it is done:\n"
        text += "".join(f"--   {_change(what, old, new)}\n" for what in made + rest)
    dropped = sorted(what for what in functions & old.keys() if _must_go(what, old, new))
    if dropped:
        text += "\n" + "".join(
            f"drop {what.replace('function', 'routine', 1)};\n" for what in dropped
        )
    for path in _files(sources, {what.split()[1].split("(")[0] for what in functions & new.keys()}):
        text += f"\n{path.read_text(encoding='utf-8')}"
    # Not what grants.sql does, which knows no rights that were granted since.
    made_anew = sorted(functions & new.keys() - old.keys() | set(dropped) & new.keys())
    if made_anew or made:
        text += RIGHTS.format(
            routines=_array(what.removeprefix("function ") for what in made_anew),
            relations=_array(what.removeprefix("relation ") for what in made),
        )
    if marked := [what.split()[1] for what in made if new[what]["relkind"] in {"r", "S"}]:
        lines = [
            f"        perform pg_catalog.pg_extension_config_dump('{name}', '');\n"
            for name in marked
        ]
        text += MARKS.format(lines="".join(lines))
    return text


def _change(what: str, old: Described, new: Described) -> str:
    return f"{'add' if what not in old else 'drop' if what not in new else 'change'} {what}"


def _array(names: Iterable[str]) -> str:
    """Return names as an array in SQL; a signature has commas of its own."""
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"array[{quoted}]"


def _must_go(what: str, old: Described, new: Described) -> bool:
    """Say whether a function cannot be replaced: it is gone, or others would call it wrongly."""
    keys = ("arguments", "result", "prokind")
    return what not in new or [old[what][key] for key in keys] != [new[what][key] for key in keys]


def _files(sources: Path, names: set[str]) -> list[Path]:
    """List the files of these functions in the order in which they load."""
    lines = (sources / "load-order").read_text(encoding="utf-8").splitlines()
    paths = [sources / line for line in lines if line.startswith("functions/")]
    return [path for path in paths if names & set(FUNCTION.findall(path.read_text("utf-8")))]
