"""What the catalog says about everything in a schema, in a form that can be compared."""

from __future__ import annotations

import re

import psycopg

# Each query yields (what it is, all that can be said of it). Numbers of objects and of storage are
# left out, and the schema's name is taken out afterwards; the rest must be equal wherever eram is.
QUERIES = (
    """
    select
        format('%s %s', object.type, object.identity),
        '{}'::jsonb
    from pg_depend as depend
    cross join pg_identify_object(depend.classid, depend.objid, depend.objsubid) as object
    where
        depend.refclassid = 'pg_namespace'::regclass
        and depend.refobjid = to_regnamespace(quote_ident(current_schema()))
        and depend.classid <> 'pg_extension'::regclass
    """,
    """
    select
        format('function %s(%s)', proname, pg_get_function_identity_arguments(procedure.oid)),
        to_jsonb(procedure)
            - '{oid, pronamespace, proowner, prolang, prorettype, proargtypes}'::text[]
            - '{proallargtypes, proargdefaults, prosqlbody}'::text[]
        || jsonb_build_object(
            'owner', procedure.proowner::regrole,
            'language', language.lanname,
            'arguments', pg_get_function_arguments(procedure.oid),
            'result', pg_get_function_result(procedure.oid),
            'sqlbody', pg_get_function_sqlbody(procedure.oid),
            'comment', obj_description(procedure.oid, 'pg_proc')
        )
    from pg_proc as procedure
    join pg_language as language on language.oid = procedure.prolang
    where procedure.pronamespace = to_regnamespace(quote_ident(current_schema()))
    """,
    """
    select
        format('relation %s', class.relname),
        to_jsonb(class)
            - '{oid, relnamespace, reltype, reloftype, relowner, relfilenode, relam}'::text[]
            - '{reltablespace, relpages, reltuples, relallvisible, relallfrozen}'::text[]
            - '{reltoastrelid, relfrozenxid, relminmxid, relrewrite}'::text[]
        || jsonb_build_object(
            'owner', class.relowner::regrole,
            'method', method.amname,
            'toast', toast.reloptions,
            'view', pg_get_viewdef(class.oid, true),
            'index', case when class.relkind = 'i' then pg_get_indexdef(class.oid, 0, true) end,
            'sequence', (
                select to_jsonb(sequence) - '{seqrelid, seqtypid}'::text[]
                from pg_sequence as sequence
                where sequence.seqrelid = class.oid
            ),
            'comment', obj_description(class.oid, 'pg_class')
        )
    from pg_class as class
    left join pg_am as method on method.oid = class.relam
    left join pg_class as toast on toast.oid = class.reltoastrelid
    where class.relnamespace = to_regnamespace(quote_ident(current_schema()))
    """,
    """
    select
        format('column %s.%s', class.relname, attribute.attname),
        to_jsonb(attribute)
            - '{attrelid, atttypid, attcacheoff, attcollation}'::text[]
            -- Some servers number the versions of a column in an option of their own.
            || jsonb_build_object('attoptions', (
                select jsonb_agg(options.option order by options.option)
                from unnest(attribute.attoptions) as options (option)
                where left(options.option, 10) <> 'pg_attver='
            ))
        || jsonb_build_object(
            'type', format_type(attribute.atttypid, attribute.atttypmod),
            'collation', collations.collname,
            'default', pg_get_expr(value.adbin, value.adrelid, true),
            'comment', col_description(class.oid, attribute.attnum)
        )
    from pg_attribute as attribute
    join pg_class as class on class.oid = attribute.attrelid
    left join pg_collation as collations on collations.oid = attribute.attcollation
    left join pg_attrdef as value
        on value.adrelid = attribute.attrelid
        and value.adnum = attribute.attnum
    where
        class.relnamespace = to_regnamespace(quote_ident(current_schema()))
        and attribute.attnum > 0
    """,
    """
    select
        format('constraint %s of %s', conname, coalesce(conrelid::regclass::text, '')),
        jsonb_build_object(
            'definition', pg_get_constraintdef(oid, true),
            'is_validated', convalidated,
            'comment', obj_description(oid, 'pg_constraint')
        )
    from pg_constraint
    where connamespace = to_regnamespace(quote_ident(current_schema()))
    """,
    """
    select
        format('trigger %s of %s', tgname, tgrelid::regclass),
        jsonb_build_object('definition', pg_get_triggerdef(oid, true), 'enabled', tgenabled)
    from pg_trigger
    where tgrelid in (
        select oid
        from pg_class
        where relnamespace = to_regnamespace(quote_ident(current_schema()))
    )
    """,
    """
    select
        format('type %s', typname),
        jsonb_build_object(
            'kind', typtype,
            'category', typcategory,
            'not null', typnotnull,
            'default', typdefault,
            'base', case when typbasetype <> 0 then format_type(typbasetype, typtypmod) end,
            'acl', typacl::text[],
            'labels', array(
                select enumlabel
                from pg_enum
                where enumtypid = pg_type.oid
                order by enumsortorder
            ),
            'comment', obj_description(oid, 'pg_type')
        )
    from pg_type
    where typnamespace = to_regnamespace(quote_ident(current_schema()))
    """,
)


def fingerprint(conn: psycopg.Connection, schema: str) -> dict[str, object]:
    """Describe every object of a schema, with the schema's own name taken out."""
    with conn.transaction(force_rollback=True):
        quoted = conn.execute("select quote_ident(%s)", [schema]).fetchone()[0]
        # Names in this schema then need no qualification, and mostly get none.
        conn.execute("select set_config('search_path', %s, true)", [quoted])
        found = [row for query in QUERIES for row in conn.execute(query)]
    qualification = re.compile(rf"(?<![\w.]){re.escape(quoted)}\.")
    path = f"{quoted}, pg_temp"
    described: dict[str, object] = {}
    for what, said in found:
        if settings := said.get("proconfig"):
            own = f"search_path={path}"
            said["proconfig"] = ["(its own)" if item == own else item for item in settings]
        elif body := said.get("prosrc"):
            # A procedure cannot pin its path, and sets it.
            literal = path.replace("'", "''")
            said["prosrc"] = body.replace(f"'{literal}'", "(its own)")
        described[qualification.sub("", what)] = said
    return described


def difference(one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
    """Return what differs between two fingerprints, and how; nothing if they are equal."""
    return {
        what: (one.get(what), other.get(what))
        for what in sorted(one.keys() | other.keys())
        if one.get(what) != other.get(what)
    }
