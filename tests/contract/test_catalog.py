"""The house style as queries over the catalog: each must return no row."""

from __future__ import annotations

import psycopg
import pytest

# What eram consists of, by the catalog's own book.
MEMBERS = """
    with members as (
        select membership.classid, membership.objid
        from pg_depend as membership
        join pg_extension as extension on extension.oid = membership.refobjid
        where membership.deptype = 'e' and extension.extname = 'eram'
    ),
    functions as (
        select pg_proc.*
        from pg_proc
        join members on members.objid = pg_proc.oid and members.classid = 'pg_proc'::regclass
    ),
    relations as (
        select pg_class.*
        from pg_class
        join members on
            members.objid = pg_class.oid and members.classid = 'pg_class'::regclass
            or members.objid = pg_class.reltype
            and members.classid = 'pg_type'::regclass
            and pg_class.relkind = 'c'
    ),
    tables as (
        select * from relations where relkind = 'r'
    )
"""

RULES = {
    "a public function has a comment": """
        select oid::regprocedure
        from functions
        where proname ~ '^eram_' and obj_description(oid, 'pg_proc') is null
    """,
    "a table or a view has a comment": """
        select relname
        from relations
        where relkind in ('r', 'v', 'm', 'p') and obj_description(oid, 'pg_class') is null
    """,
    "a type has a comment": """
        select types.typname
        from pg_type as types
        join relations on relations.oid = types.typrelid
        where relations.relkind = 'c' and obj_description(types.oid, 'pg_type') is null
    """,
    "a comment is whole sentences": """
        select oid::regprocedure
        from functions
        where obj_description(oid, 'pg_proc') !~ '^[A-Z].*[.]$' and proname ~ '^eram_'
        union all
        select oid
        from relations
        where obj_description(oid, 'pg_class') !~ '^[A-Z].*[.]$'
    """,
    "a function has a pinned search_path, with pg_temp last": """
        select oid::regprocedure, proconfig
        from functions
        where
            format('search_path=%I, pg_temp', pronamespace::regnamespace)
            <> all (coalesce(proconfig, '{}'))
            and prokind = 'f'
    """,
    # It could not commit, so it sets the path in each transaction.
    "a procedure neither pins its path nor runs as the owner": """
        select oid::regprocedure
        from functions
        where prokind = 'p' and (proconfig is not null or prosecdef)
    """,
    "a name begins with eram_ or _eram_": """
        select proname from functions where proname !~ '^_?eram_[a-z0-9_]+$'
        union all
        select relname from relations where relname !~ '^eram_[a-z0-9_]+$'
    """,
    "no name is overloaded but eram_enqueue_job": """
        select proname
        from functions
        where proname <> 'eram_enqueue_job'
        group by proname
        having count(*) > 1
    """,
    "nobody may execute anything unless it is granted": """
        select oid::regprocedure
        from functions
        where has_function_privilege('public', oid, 'execute')
    """,
    "nobody may touch a table unless it is granted": """
        select relname
        from relations
        where
            relkind in ('r', 'v')
            and has_table_privilege('public', oid, 'select, insert, update, delete, truncate')
    """,
    "public functions run as the owner, because callers have no tables": """
        select oid::regprocedure
        from functions
        where
            proname ~ '^eram_'
            and not prosecdef
            and prokind = 'f'
            and proname <> 'eram_version'
    """,
    "internal functions run as their caller": """
        select oid::regprocedure from functions where proname ~ '^_eram_' and prosecdef
    """,
    "constraints have names of the usual shape": """
        select constraints.conrelid::regclass, constraints.conname
        from pg_constraint as constraints
        join tables on tables.oid = constraints.conrelid
        where
            constraints.contype <> 'n'
            and constraints.conname !~ format(
                '^%s(_[a-z_]+)?_%s$', tables.relname,
                case constraints.contype
                    when 'p' then 'pkey' when 'c' then 'check' when 'u' then 'key' else 'none'
                end)
    """,
    "no constraint was named by the server because two would be alike": """
        select conname
        from pg_constraint as constraints
        join tables on tables.oid = constraints.conrelid
        where conname ~ '[0-9]$'
    """,
    # The two names are the parents' own: what people have in their reindexing schedules.
    "indexes are named by their purpose": """
        select indexes.indexrelid::regclass
        from pg_index as indexes
        join tables on tables.oid = indexes.indrelid
        where
            indexes.indexrelid::regclass::text
            !~ format('^%s(_[a-z_]+)?_(pkey|key|idx)$', tables.relname)
            and indexes.indexrelid <> all (
                '{eram_jobs_args_index,eram_jobs_meta_index}'::regclass[])
    """,
    "no column has a type that is a trap": """
        select columns.attrelid::regclass, columns.attname, columns.atttypid::regtype
        from pg_attribute as columns
        join relations on relations.oid = columns.attrelid
        where
            columns.attnum > 0
            and relations.relkind in ('r', 'v', 'c')
            and columns.atttypid in (
                'varchar'::regtype, 'bpchar'::regtype, 'timestamp'::regtype, 'timetz'::regtype,
                'json'::regtype, 'money'::regtype, 'real'::regtype)
    """,
    "no function takes or returns a type that is a trap": """
        select oid::regprocedure
        from functions
        where
            coalesce(proallargtypes, proargtypes::oid[]) || prorettype && array[
                'varchar'::regtype, 'bpchar'::regtype, 'timestamp'::regtype, 'timetz'::regtype,
                'json'::regtype, 'money'::regtype, 'real'::regtype]::oid[]
    """,
    "ids are identities, not serials": """
        select adrelid::regclass, pg_get_expr(adbin, adrelid)
        from pg_attrdef
        join tables on tables.oid = adrelid
        where pg_get_expr(adbin, adrelid) ~ 'nextval'
    """,
    "every table and sequence is marked for pg_dump": """
        select relname
        from relations
        where
            relkind in ('r', 'S')
            and oid <> all (select unnest(extconfig) from pg_extension where extname = 'eram')
    """,
    "what is marked for pg_dump is marked whole": """
        select unnest(extcondition) from pg_extension where extname = 'eram' except select ''
    """,
    "no foreign keys and no triggers on the hot tables": """
        select conname from pg_constraint join tables on tables.oid = conrelid where contype = 'f'
        union all
        select tgname from pg_trigger join tables on tables.oid = tgrelid
    """,
    "tables whose rows come and go keep their files": """
        select relname
        from tables
        where
            relname ~ '^eram_(job_specs|queued_jobs|running_jobs|finished_jobs)$'
            and 'vacuum_truncate=off' <> all (coalesce(reloptions, '{}'))
    """,
    "everything is of the extension": """
        select oid::regprocedure::text
        from pg_proc
        where proname ~ '^_?eram_' and oid not in (select oid from functions)
        union all
        select relname
        from pg_class
        where
            relname ~ '^_?eram_'
            and relkind in ('r', 'v', 'S', 'c')
            and oid not in (select oid from relations)
    """,
    "functions of the API that write are volatile": """
        select oid::regprocedure
        from functions
        where
            proname ~ '^eram_'
            and provolatile <> 'v'
            and proname not in (
                'eram_check', 'eram_count_handlers', 'eram_count_jobs', 'eram_count_minutes',
                'eram_find_jobs', 'eram_measure_latency', 'eram_next_run', 'eram_outcome',
                'eram_reindex_plan', 'eram_retention', 'eram_version')
    """,
    "an argument is named as a column is, in plain words": """
        select oid::regprocedure, arguments.name
        from functions
        cross join lateral unnest(proargnames) as arguments (name)
        where
            arguments.name is null
            or arguments.name !~ '^[a-z][a-z_]+$'
            or arguments.name ~ '^(p|v|i|in|out)_'
    """,
}

# A column whose name says it all needs no comment.
OBVIOUS = {
    *("id", "job_id", "name", "handler", "args", "meta", "tags", "queue", "queues", "priority"),
    *("max_attempts", "timeout", "attempt", "worker", "error", "result", "state"),
    *("inserted_at", "scheduled_at", "attempted_at", "finalized_at", "errored_at"),
    *("started_at", "ended_at", "end_reason"),
}

API = {
    "eram_backoff": "attempt integer, backoff jsonb",
    "eram_begin_command": "run_id bigint",
    "eram_cancel_job": "id bigint, reason text, run integer",
    "eram_cancel_jobs": "filter jsonb, reason text",
    "eram_check": "",
    "eram_complete_jobs": "ids bigint[], runs integer[], results jsonb[]",
    "eram_count_handlers": "",
    "eram_count_jobs": "",
    "eram_count_minutes": "of_queue text",
    "eram_delete_job": "id bigint",
    "eram_delete_jobs": "filter jsonb",
    "eram_delete_handler": "handler text",
    "eram_discard_job": "id bigint, run integer, reason text",
    "eram_enqueue_jobs": "jobs jsonb",
    "eram_fail_job": "id bigint, run integer, error text, detail jsonb, delay interval",
    "eram_fetch": "queue text, demand integer, worker bigint",
    "eram_find_jobs": "filter jsonb, before bigint, max_count integer",
    "eram_finish_command": "run_id bigint, error text",
    "eram_grant": "role text, what text, queues text[]",
    "eram_health": "",
    "eram_heartbeat": "worker bigint",
    "eram_measure_latency": "of_queue text",
    "eram_metrics": "",
    "eram_move_jobs": "filter jsonb, queue text",
    "eram_next_run": "schedule text, timezone text, after timestamp with time zone",
    "eram_outcome": "id bigint",
    "eram_pause_queue": "queue text",
    "eram_pause_schedule": "name text",
    "eram_prune_jobs": "max_age interval, max_count integer",
    "eram_reindex_plan": "indexes text[]",
    "eram_register_handler": (
        "handler text, queue text, max_attempts integer, priority integer, tags text[], "
        "unique_by jsonb, backoff jsonb, timeout interval, meta jsonb, aliases text[]"
    ),
    "eram_register_schedules": "application text, schedules jsonb",
    "eram_release_jobs": "ids bigint[], runs integer[]",
    "eram_release_other_jobs": "worker bigint, queue text, ids bigint[], runs integer[]",
    "eram_rescue_jobs": "rescue_after interval",
    "eram_resume_queue": "queue text",
    "eram_resume_schedule": "name text",
    "eram_retention": "queue text",
    "eram_retry_job": "id bigint",
    "eram_retry_jobs": "filter jsonb",
    "eram_revoke": "role text, what text",
    "eram_run": "IN duration interval",
    "eram_run_command": "run_id bigint",
    "eram_run_schedule": "name text",
    "eram_schedule": (
        "name text, schedule text, handler text, args jsonb, timezone text, missed text, "
        "options jsonb"
    ),
    "eram_schedule_maintenance": "task text, schedule text, options jsonb, timezone text",
    "eram_schedule_sql": (
        "name text, schedule text, command text, timezone text, missed text, timeout interval, "
        "is_top_level boolean"
    ),
    "eram_set_handler": "handler text, overrides jsonb",
    "eram_set_queue": (
        "queue text, is_notifying boolean, priority integer, max_attempts integer, backoff jsonb, "
        "max_age jsonb, rescue_after interval, global_limit integer, is_announcing boolean"
    ),
    "eram_snooze_job": "id bigint, run integer, delay interval",
    "eram_start_waiting": "queue text, mark xid8",
    "eram_start_worker": "name text, queues text[], client_pid integer, stalled_after interval",
    "eram_stop_waiting": "queue text",
    "eram_stop_worker": "worker bigint",
    "eram_tick": "max_commands integer, with_top_level boolean",
    "eram_unschedule": "name text",
    "eram_update_job": (
        "id bigint, priority integer, scheduled_at timestamp with time zone, delay interval, "
        "max_attempts integer, backoff jsonb, timeout interval, tags text[], meta jsonb, args jsonb"
    ),
    "eram_version": "",
    "eram_why": "id bigint",
}
ENQUEUE_JOB = (
    "job jsonb",
    (
        "handler text, args jsonb, queue text, priority integer, max_attempts integer, "
        "scheduled_at timestamp with time zone, delay interval, tags text[], meta jsonb, "
        "backoff jsonb, timeout interval, unique_by jsonb"
    ),
)


@pytest.mark.parametrize("rule", RULES)
def test_rule(catalog: psycopg.Connection, rule: str):
    found = catalog.execute(MEMBERS + RULES[rule]).fetchall()
    assert not found, "\n".join(map(str, found))


def test_the_rules_have_something_to_look_at(catalog: psycopg.Connection):
    counts = catalog.execute(
        MEMBERS + "select (select count(*) from functions), (select count(*) from tables)"
    ).fetchone()
    assert counts is not None
    assert counts >= (40, 7)


def test_the_script_seeds_no_row_that_a_restore_would_collide_with(catalog: psycopg.Connection):
    for (table,) in catalog.execute(MEMBERS + "select relname from tables").fetchall():
        assert catalog.execute(f"select * from {table}").fetchall() == []


def test_a_column_that_is_not_obvious_has_a_comment(catalog: psycopg.Connection):
    found = catalog.execute(
        MEMBERS
        + """
        select columns.attname, tables.relname
        from pg_attribute as columns
        join tables on tables.oid = columns.attrelid
        where
            columns.attnum > 0
            and not columns.attisdropped
            and col_description(columns.attrelid, columns.attnum) is null
        """
    ).fetchall()
    unclear = [f"{table}.{name}" for name, table in found if name not in OBVIOUS]
    assert not unclear, ", ".join(unclear)


def test_the_public_functions_are_the_api(catalog: psycopg.Connection):
    """Whoever calls them from another language rests on these names."""
    found = catalog.execute(
        MEMBERS
        + """
        select proname, pg_get_function_identity_arguments(oid)
        from functions
        where proname ~ '^eram_'
        """
    ).fetchall()
    arguments = {
        (
            name,
            ", ".join(
                a.removeprefix("INOUT ") for a in given.split(", ") if not a.startswith("OUT ")
            ),
        )
        for name, given in found
    }
    expected = {*API.items(), *(("eram_enqueue_job", given) for given in ENQUEUE_JOB)}
    assert arguments == expected


def test_only_the_first_arguments_are_required(catalog: psycopg.Connection):
    """Options may be left out, and null means the default."""
    required = dict(
        catalog.execute(
            MEMBERS
            + """
            select proname, min(pronargs - pronargdefaults)
            from functions
            where proname ~ '^eram_(enqueue_job|set_queue|fail_job|start_worker)$'
            group by proname
            """
        ).fetchall()
    )
    assert required == {
        "eram_enqueue_job": 1,
        "eram_fail_job": 3,
        "eram_set_queue": 1,
        "eram_start_worker": 2,
    }


def test_the_version_is_that_of_the_extension(catalog: psycopg.Connection):
    versions = "select extversion, eram_version() from pg_extension where extname = 'eram'"
    extension, function = catalog.execute(versions).fetchone()
    assert extension == function
