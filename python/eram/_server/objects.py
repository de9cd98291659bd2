"""Which objects of a schema are eram's: those that the script of this version makes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from eram._server import extension

MAX_NAMED = 5
# The procedure whose text has a place for the schema is made by a function, when it is wanted.
_MADE = re.compile(
    r"^create (?:or replace )?(function|procedure|table|view|type) (?:<schema>\.)?(\w+)",
    re.MULTILINE,
)
_KINDS = {"procedure": "function"}
# An identity column's sequence, a table's row type, and a type's array go with what they are of.
_NAMED_LIKE_ERAM = """
select
    case class.relkind
        when 'r' then 'table'
        when 'v' then 'view'
        when 'c' then 'type'
        when 'S' then 'sequence'
        else 'relation'
    end as kind,
    class.relname::text as name,
    class.relname::text as shown
from pg_class as class
where
    class.relnamespace = %(schema)s::regnamespace
    and class.relname ~ '^_?eram_'
    and class.relkind not in ('i', 'I', 't')
    and not exists (
        select
        from pg_depend as dependency
        where
            class.relkind = 'S'
            and dependency.classid = 'pg_class'::regclass
            and dependency.objid = class.oid
            and dependency.deptype = 'i'
    )
union all
select
    'function',
    functions.proname::text,
    pg_catalog.concat(
        functions.proname, '(', pg_get_function_identity_arguments(functions.oid), ')')
from pg_proc as functions
where
    functions.pronamespace = %(schema)s::regnamespace
    and functions.proname ~ '^_?eram_'
union all
select
    'type',
    types.typname::text,
    types.typname::text
from pg_type as types
where
    types.typnamespace = %(schema)s::regnamespace
    and types.typname ~ '^_?eram_'
    and types.typrelid = 0
    and not exists (
        select
        from pg_type as elements
        where elements.typarray = types.oid
    )
order by 1, 2, 3
"""


def foreign(conn: psycopg.Connection[Any], schema: str) -> str | None:
    """Name what is called like an object of eram in a schema, and is none.

    Of functions of one name nobody can tell by it which is eram's: all of them are named.

    Returns:
        The first few, in words; None if there is nothing.
    """
    made = Counter(
        (_KINDS.get(kind, kind), name) for kind, name in _MADE.findall(extension.install_script())
    )
    found: dict[tuple[str, str], list[str]] = {}
    quoted = sql.Identifier(schema).as_string()
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        for kind, name, shown in cursor.execute(_NAMED_LIKE_ERAM, {"schema": quoted}):
            found.setdefault((kind, name), []).append(shown)
    named = []
    for (kind, name), shown in found.items():
        if len(shown) > made[kind, name]:
            one_of = "one of " if made[kind, name] else ""
            named.append(f"{one_of}{kind} {', '.join(shown)}")
    if not named:
        return None
    more = len(named) - MAX_NAMED
    return "; ".join(named[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
