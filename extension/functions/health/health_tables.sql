-- Checks of eram_health() for eram's tables, by what the server knows of them without looking into
-- them: dead rows, vacuuming, room.

-- What the server knows of eram's tables without looking into them.
create or replace function _eram_table_states()
    returns table (
        name             text,
        qualified        text,
        live_count       bigint,
        dead_count       bigint,
        byte_count       bigint,
        vacuum_at_count  double precision,
        vacuumed_at      timestamptz,
        is_autovacuumed  boolean,
        is_at_work       boolean,
        unfrozen_age     double precision
    )
    language sql
    stable
    set search_path from current
as $$
    select
        relations.relname,
        format('%I.%I', schemas.nspname, relations.relname),
        -- The counters begin anew after a crash and at a standby; what the last vacuum estimated
        -- is kept.
        greatest(pg_stat_get_live_tuples(relations.oid), relations.reltuples::bigint),
        pg_stat_get_dead_tuples(relations.oid),
        pg_total_relation_size(relations.oid),
        coalesce(
                options.threshold,
                current_setting('autovacuum_vacuum_threshold'))::double precision
            + coalesce(
                options.scale_factor,
                current_setting('autovacuum_vacuum_scale_factor'))::double precision
            * greatest(relations.reltuples, 0),
        greatest(
            pg_stat_get_last_vacuum_time(relations.oid),
            pg_stat_get_last_autovacuum_time(relations.oid)),
        coalesce(options.is_enabled::boolean, true),
        -- A vacuum's process is known to all, but not its table.
        exists (
            select
            from pg_catalog.pg_locks as locks
            join pg_catalog.pg_stat_progress_vacuum as vacuums on vacuums.pid = locks.pid
            where
                locks.locktype = 'relation'
                and locks.relation = relations.oid
                and locks.granted
        ),
        age(relations.relfrozenxid)
            / current_setting('autovacuum_freeze_max_age')::double precision
    from unnest(_eram_tables()) as tables (id)
    join pg_catalog.pg_class as relations on relations.oid = tables.id
    join pg_catalog.pg_namespace as schemas on schemas.oid = relations.relnamespace
    cross join lateral (
        select
            max(settings.option_value) filter (
                where settings.option_name = 'autovacuum_vacuum_threshold') as threshold,
            max(settings.option_value) filter (
                where settings.option_name = 'autovacuum_vacuum_scale_factor') as scale_factor,
            max(settings.option_value) filter (
                where settings.option_name = 'autovacuum_enabled') as is_enabled
        from pg_options_to_table(relations.reloptions) as settings
    ) as options;
$$;

-- Each of them has left a dead row in the tables of tickets, which autovacuum, looking once a
-- minute, may not have had the time to remove.
create or replace function _eram_ended_lately()
    returns bigint
    language sql
    stable
    set search_path from current
as $$
    select coalesce(
        sum(
            minutes.completed_count + minutes.failed_count + minutes.cancelled_count),
        0)::bigint
    from eram_count_minutes() as minutes
    where minutes.minute > clock_timestamp() - interval '10 minutes';
$$;

create or replace function _eram_health_dead_tuples()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    with tables as materialized (
        select
            states.*,
            _eram_health_level(
                'dead_rows',
                case when 5 * states.dead_count > states.live_count then states.dead_count end)
                as level
        from _eram_table_states() as states
    )
    select
        worst.level,
        format(
            'table "%s" has %s dead rows and %s live ones',
            worst.name, worst.dead_count, worst.live_count),
        format('vacuum %s;', worst.qualified),
        (select sum(tables.dead_count) from tables)::double precision
    from tables as worst
    order by
        _eram_health_rank(worst.level),
        worst.dead_count desc,
        worst.name
    limit 1;
$$;

create or replace function _eram_health_autovacuum()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    with states as materialized (
        select
            states.*,
            states.dead_count / greatest(states.vacuum_at_count, 1) as delay,
            states.dead_count > greatest(states.vacuum_at_count, _eram_health_least_dead_rows())
                as is_due
        from _eram_table_states() as states
    ),
    findings as (
        select
            case when bool_or(states.is_due) then 'critical' else 'warn' end as level,
            format('%s is off for the whole server', settings.name) as finding,
            format('alter system set %s = on; select pg_reload_conf();', settings.name) as action,
            max(states.delay) as delay
        from pg_catalog.pg_settings as settings
        cross join states
        where
            settings.name in ('autovacuum', 'track_counts')
            and settings.setting = 'off'
        group by settings.name
        union all
        select
            case when states.is_due then 'critical' else 'warn' end,
            format('autovacuum is off for table "%s"', states.name),
            format('alter table %s reset (autovacuum_enabled);', states.qualified),
            states.delay
        from states
        where not states.is_autovacuumed
        union all
        select
            _eram_health_level('unfrozen_age', states.unfrozen_age),
            format(
                'table "%s" has rows that are %s times autovacuum_freeze_max_age old',
                states.name, round(states.unfrozen_age::numeric, 1)),
            format('vacuum (freeze) %s;', states.qualified),
            states.delay
        from states
        union all
        -- Where one has just been, it is not late: something keeps it from removing them.
        select
            _eram_health_level('vacuum_delay', states.delay),
            format(
                'table "%s" has %s dead rows, %s times what autovacuum is to come at, and was %s',
                states.name,
                states.dead_count,
                round(states.delay::numeric, 1),
                coalesce(
                    'last vacuumed at ' || _eram_when(states.vacuumed_at),
                    'never vacuumed')),
            format('vacuum (analyze) %s;', states.qualified),
            states.delay
        from states
        where
            states.is_due
            and not states.is_at_work
            and coalesce(
                states.vacuumed_at < clock_timestamp() - interval '10 minutes', true)
            -- Looked up only if all else speaks for it.
            and case
                when _eram_health_level('vacuum_delay', states.delay) <> 'ok'
                then states.dead_count > _eram_ended_lately()
            end
        union all
        select
            'ok',
            'autovacuum is on, and not late',
            null,
            max(states.delay)
        from states
    )
    select
        findings.level,
        findings.finding,
        findings.action,
        findings.delay
    from findings
    order by
        _eram_health_rank(findings.level),
        findings.delay desc,
        findings.action nulls first
    limit 1;
$$;

-- Tickets come and go, and their tables keep the room that the most of them have needed.
create or replace function _eram_health_sizes()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    with tables as materialized (
        select
            states.*,
            case
                when states.name in ('eram_queued_jobs', 'eram_running_jobs') then greatest(
                    states.byte_count - 10 * _eram_health_ticket_bytes() * states.live_count,
                    0)
                else 0
            end as hollow
        from _eram_table_states() as states
    )
    select
        _eram_health_level('hollow_bytes', worst.hollow),
        case
            when _eram_health_level('hollow_bytes', worst.hollow) = 'ok' then format(
                'eram takes %s, most of it table "%s": %s',
                pg_size_pretty(totals.byte_count),
                biggest.name,
                pg_size_pretty(biggest.byte_count))
            else format(
                'table "%s" takes %s for %s rows',
                worst.name, pg_size_pretty(worst.byte_count), worst.live_count)
        end,
        format('vacuum full %s;', worst.qualified),
        totals.byte_count
    from (select sum(tables.byte_count) from tables) as totals (byte_count)
    cross join lateral (
        select tables.* from tables order by tables.byte_count desc, tables.name limit 1
    ) as biggest
    cross join lateral (
        select tables.* from tables order by tables.hollow desc, tables.name limit 1
    ) as worst;
$$;
