-- Rebuilding indexes. REINDEX and DROP INDEX CONCURRENTLY run in no function, so they are planned
-- here and run by a client, one after the other: two of them at once on one table end in a
-- deadlock, even while the second still waits for the first.

-- Nothing is ever planned for an index of another table.
create or replace function _eram_tables()
    returns regclass[]
    language sql
    stable
    set search_path from current
as $$
    select array[
        'eram_job_specs',
        'eram_queued_jobs',
        'eram_running_jobs',
        'eram_finished_jobs',
        'eram_completions',
        'eram_job_errors',
        'eram_unique_keys',
        'eram_handlers',
        'eram_queues',
        'eram_queue_grants',
        'eram_removals',
        'eram_workers',
        'eram_cancelled_runs',
        'eram_schedules',
        'eram_schedule_runs',
        'eram_unscheduled',
        'eram_declared_schedules',
        'eram_minutes',
        'eram_totals',
        'eram_removal_counts',
        'eram_recordings'
    ]::regclass[];
$$;

-- The tables of which another session is building or dropping an index right now. That its lock
-- is of that kind is seen by the index, which a vacuum locks otherwise; a CREATE INDEX locks only
-- the table, and is known by its progress, of which everyone is shown at least the process.
create or replace function _eram_tables_under_work()
    returns regclass[]
    language sql
    volatile
    set search_path from current
as $$
    select array(
        select distinct coalesce(indexes.indrelid, locks.relation)::regclass
        from pg_catalog.pg_locks as locks
        left join pg_catalog.pg_index as indexes on indexes.indexrelid = locks.relation
        where
            locks.locktype = 'relation'
            and locks.database = (
                select databases.oid
                from pg_catalog.pg_database as databases
                where databases.datname = current_database()
            )
            and locks.mode = 'ShareUpdateExclusiveLock'
            and locks.granted
            and (
                indexes.indexrelid is not null
                or locks.pid in (
                    select progress.pid
                    from pg_catalog.pg_stat_progress_create_index as progress
                )
            )
    );
$$;

create or replace function _eram_check_reindexer_options(options jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_keys    constant text[] := array['indexes', 'timeout'];
    v_timeout interval;
begin
    perform _eram_check_object('options', options);

    perform _eram_check_keys('options', options, c_keys);
    if jsonb_typeof(options -> 'indexes') not in ('array', 'null')
        or jsonb_path_exists(
            options, 'strict $.indexes[*] ? (@.type() != "string" || @ == "")', silent => true)
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'indexes must be an array of names, got %s',
                left(options ->> 'indexes', 100)),
            hint = 'Pass indexes as ["eram_jobs_args_index", "eram_jobs_meta_index"].';
    end if;

    v_timeout := _eram_read_interval('timeout', coalesce(options -> 'timeout', 'null'));
    if v_timeout is not null then
        perform _eram_check_timeout(v_timeout);
    end if;
end;
$$;

-- Those of the maintenance entry; without it, those that grow out of proportion.
create or replace function _eram_configured_indexes()
    returns text[]
    language sql
    stable
    set search_path from current
as $$
    select array(
        select names.name
        from (
            select
                entries.options -> 'indexes' as indexes
            from (
                select schedules.options, 1 as rank
                from eram_schedules as schedules
                where schedules.action = 'reindexer'
                union all
                select defaults.options, 2
                from _eram_default_maintenance() as defaults
                where defaults.action = 'reindexer'
            ) as entries
            where jsonb_typeof(entries.options -> 'indexes') = 'array'
            order by entries.rank
            limit 1
        ) as configured
        cross join lateral jsonb_array_elements_text(configured.indexes)
            with ordinality as names (name, position)
        order by names.position
    );
$$;

create or replace function eram_reindex_plan(indexes text[] default null)
    returns table (index_name text, command text, problem text)
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    -- What REINDEX CONCURRENTLY calls the index that it builds, and the one that it replaces.
    c_leftover  constant text := '_cc(new|old)[0-9]*$';
    v_indexes   text[]        := coalesce(indexes, _eram_configured_indexes());
    v_schema    name;
    v_leftovers name[];
    v_busy      regclass[];
begin
    if array_ndims(v_indexes) > 1 then
        raise exception using
            errcode = 'array_subscript_error',
            message = format(
                'indexes must be a list, got an array of %s dimensions',
                array_ndims(v_indexes)),
            hint = 'Pass indexes as ''{eram_jobs_args_index}''.';
    elsif array_position(v_indexes, null) is not null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'indexes must not contain null',
            hint = 'Pass names of indexes, or no array at all for those of the schedule.';
    end if;

    select schemas.nspname into v_schema
    from pg_catalog.pg_class as relations
    join pg_catalog.pg_namespace as schemas on schemas.oid = relations.relnamespace
    where relations.oid = 'eram_job_specs'::regclass;

    -- First the leftovers, then who is at work: otherwise one could begin in between, and its new
    -- index would look abandoned.
    v_leftovers := array(
        select relations.relname
        from pg_catalog.pg_index as definitions
        join pg_catalog.pg_class as relations on relations.oid = definitions.indexrelid
        where
            definitions.indrelid = any (_eram_tables())
            and not definitions.indisvalid
            and relations.relname ~ c_leftover
    );
    v_busy := _eram_tables_under_work();

    return query
    select
        relations.relname::text,
        format('DROP INDEX CONCURRENTLY IF EXISTS %I.%I', v_schema, relations.relname),
        null
    from pg_catalog.pg_class as relations
    join pg_catalog.pg_index as definitions on definitions.indexrelid = relations.oid
    where
        relations.relnamespace = quote_ident(v_schema)::regnamespace
        and relations.relname = any (v_leftovers)
        and definitions.indrelid <> all (v_busy)
    order by relations.relname;

    return query
    select
        names.name,
        case
            when problems.problem is null
            then format('REINDEX INDEX CONCURRENTLY %I.%I', v_schema, names.name)
        end,
        problems.problem
    from (
        select given.name, min(given.position) as position
        from unnest(v_indexes) with ordinality as given (name, position)
        group by given.name
    ) as names
    left join pg_catalog.pg_class as relations
        on relations.relname = names.name
        and relations.relnamespace = quote_ident(v_schema)::regnamespace
    left join pg_catalog.pg_index as definitions on definitions.indexrelid = relations.oid
    cross join lateral (
        select case
            when relations.oid is null then
                format('index "%s" does not exist in schema "%s"', names.name, v_schema)
            when definitions.indexrelid is null then
                format('"%s" is not an index', names.name)
            when definitions.indrelid <> all (_eram_tables()) then
                format('index "%s" is not on a table of eram', names.name)
            when definitions.indrelid = any (v_busy) then
                format(
                    'another session is at work on an index of table "%s"',
                    definitions.indrelid::regclass)
            when relations.relname = any (v_leftovers) then
                format('index "%s" is a leftover, and is dropped', names.name)
        end as problem
    ) as problems
    order by names.position;
end;
$$;

comment on function eram_reindex_plan is
    'What to run to rebuild indexes of eram''s tables, those of the schedule by default, one row a '
    'command: first invalid leftovers of earlier attempts are dropped. The commands must be run '
    'outside of any transaction block, in this order, one after the other. Where there is a '
    'problem there is no command.';
