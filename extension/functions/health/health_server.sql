-- Checks of eram_health() for indexes, sequences, and the queue of notifications.

-- One that is being built is invalid until it is done.
create or replace function _eram_health_indexes()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    with invalid as materialized (
        select
            relations.relname,
            schemas.nspname,
            -- What a reindexing that was cut off leaves behind, or an attempt to make one more.
            case
                when relations.relname ~ '_cc(new|old)[0-9]*$' then true
                else relations.relname !~ '^eram_'
            end as is_leftover,
            definitions.indisunique
        from pg_catalog.pg_index as definitions
        join pg_catalog.pg_class as relations on relations.oid = definitions.indexrelid
        join pg_catalog.pg_namespace as schemas on schemas.oid = relations.relnamespace
        where
            definitions.indrelid = any (_eram_tables())
            and not definitions.indisvalid
            and definitions.indrelid <> all (_eram_tables_under_work())
    ),
    worst as (
        select invalid.*
        from invalid
        order by
            invalid.is_leftover,
            not invalid.indisunique,
            invalid.relname
        limit 1
    )
    select
        case
            when worst.relname is null then 'ok'
            when worst.indisunique and not worst.is_leftover then 'critical'
            else 'warn'
        end,
        case
            when worst.relname is null then 'all indexes are valid'
            else format(
                'index "%s" is invalid%s',
                worst.relname,
                case
                    when counts.total > 1 then format(', and %s more', counts.total - 1)
                    else ''
                end)
        end,
        case
            when worst.is_leftover
            then format('drop index concurrently %I.%I;', worst.nspname, worst.relname)
            when worst.relname is not null
            then format('reindex index concurrently %I.%I;', worst.nspname, worst.relname)
        end,
        counts.total
    from (select count(*) from invalid) as counts (total)
    left join worst on true;
$$;

create or replace function _eram_health_notifications()
    returns table (level text, finding text, action text, value double precision)
    language sql
    volatile
    set search_path from current
as $$
    select
        _eram_health_level('notification_queue', usage.part),
        format('the queue of notifications is filled to %s%%', round(100 * usage.part::numeric, 1)),
        'select pid, usename, application_name, state, xact_start from pg_stat_activity '
            'where backend_type = ''client backend'' and xact_start is not null '
            'order by xact_start limit 5;',
        usage.part
    -- Nobody can listen at a standby.
    from (
        select case when pg_is_in_recovery() then 0 else pg_notification_queue_usage() end
    ) as usage (part);
$$;

create or replace function _eram_health_sequences()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    select
        _eram_health_level('used_sequence', sequences.used),
        format(
            'sequence "%s" has used %s%% of its numbers',
            sequences.relname, round(100 * sequences.used::numeric, 1)),
        case
            when sequences.seqmax < 9223372036854775807
            then format('alter sequence %I.%I no maxvalue;', sequences.nspname, sequences.relname)
            else format(
                'select setval(%L, (select coalesce(max(%I), 1) from %I.%I));',
                format('%I.%I', sequences.nspname, sequences.relname),
                sequences.attname, sequences.nspname, sequences.table_name)
        end,
        sequences.used
    from (
        select
            relations.relname,
            schemas.nspname,
            columns.attname,
            tables.relname as table_name,
            definitions.seqmax,
            coalesce(pg_sequence_last_value(relations.oid), 0)
                / definitions.seqmax::double precision as used
        from pg_catalog.pg_sequence as definitions
        join pg_catalog.pg_class as relations on relations.oid = definitions.seqrelid
        join pg_catalog.pg_namespace as schemas on schemas.oid = relations.relnamespace
        join pg_catalog.pg_depend as ownership
            on ownership.classid = 'pg_catalog.pg_class'::regclass
            and ownership.objid = relations.oid
            and ownership.refclassid = 'pg_catalog.pg_class'::regclass
            and ownership.deptype = 'i'
        join pg_catalog.pg_class as tables on tables.oid = ownership.refobjid
        join pg_catalog.pg_attribute as columns
            on columns.attrelid = ownership.refobjid
            and columns.attnum = ownership.refobjsubid
        where ownership.refobjid = any (_eram_tables())
    ) as sequences
    order by
        sequences.used desc,
        sequences.relname
    limit 1;
$$;
