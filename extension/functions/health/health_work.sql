-- Checks of eram_health() for who does the work: tickers, workers, schedules. They read schedules
-- and living workers.

-- SQL and reindexing are left to those who may, and may be late while all else is done.
create or replace function _eram_overdue_schedules(are_commands boolean)
    returns table (name text, next_run_at timestamptz, total bigint)
    language sql
    stable
    set search_path from current
as $$
    select
        schedules.name,
        schedules.next_run_at,
        count(*) over ()
    from eram_schedules as schedules
    where
        schedules.next_run_at
            < clock_timestamp() - _eram_health_warns_at('tick_delay') * interval '1 second'
        and are_commands = (schedules.action in ('sql', 'top_level', 'reindexer'))
    order by
        schedules.next_run_at,
        schedules.name
    limit 1;
$$;

create or replace function _eram_health_ticker()
    returns table (level text, finding text, action text, value double precision)
    language sql
    volatile
    set search_path from current
as $$
    select
        case
            when overdue.name is not null then _eram_health_level('tick_delay', delays.seconds)
            when ticked.is_so then 'ok'
            else 'warn'
        end,
        case
            when overdue.name is not null then format(
                'nobody ticks: schedules overdue: %s, "%s" since %s',
                overdue.total, overdue.name, _eram_when(overdue.next_run_at))
            when ticked.is_so then 'no schedule is overdue'
            else 'nobody has ticked yet'
        end,
        'python -m eram tick',
        coalesce(delays.seconds, 0)
    -- The first tick makes the entries of maintenance, but for those that were removed.
    from (
        select
            exists (
                select
                from eram_schedules as schedules
                where schedules.action in ('prune', 'lifeline')
            )
            or exists (select from eram_unscheduled)
    ) as ticked (is_so)
    left join _eram_overdue_schedules(are_commands => false) as overdue on true
    cross join lateral (
        select extract(epoch from clock_timestamp() - overdue.next_run_at)::double precision
    ) as delays (seconds);
$$;

create or replace function _eram_health_workers()
    returns table (level text, finding text, action text, value double precision)
    language sql
    volatile
    set search_path from current
as $$
    with living as materialized (
        select
            workers.id,
            workers.name,
            least(workers.heartbeat_at, workers.missing_since) as sign_at,
            extract(
                epoch from clock_timestamp() - least(workers.heartbeat_at, workers.missing_since)
            )::double precision as seconds
        from eram_workers as workers
        where workers.ended_at is null
    ),
    silent as (
        select living.*
        from living
        where _eram_health_level('worker_silence', living.seconds) <> 'ok'
        order by
            living.sign_at,
            living.id
    ),
    counts as (
        select
            (select count(*) from living) as living_count,
            (select count(*) from silent) as silent_count
    )
    select
        case
            when counts.silent_count = 0 then 'ok'
            when counts.silent_count = counts.living_count then 'critical'
            else 'warn'
        end,
        case
            when longest.id is not null then format(
                '%s of %s workers silent, worker %s ("%s") since %s',
                counts.silent_count,
                counts.living_count,
                longest.id,
                longest.name,
                _eram_when(longest.sign_at))
            else format('workers: %s', counts.living_count)
        end,
        format('select %I.eram_rescue_jobs();', _eram_schema()),
        counts.silent_count
    from counts
    left join lateral (select silent.* from silent limit 1) as longest on true;
$$;

create or replace function _eram_health_schedules()
    returns table (level text, finding text, action text, value double precision)
    language sql
    volatile
    set search_path from current
as $$
    select
        case
            when failing.name is not null then 'critical'
            when overdue.name is not null then _eram_health_level(
                'tick_delay',
                extract(epoch from clock_timestamp() - overdue.next_run_at)::double precision)
            else 'ok'
        end,
        case
            when failing.name is not null then format(
                'schedule "%s" failed at %s: %s%s',
                failing.name,
                _eram_when(failing.last_run_at),
                left(split_part(failing.last_error, chr(10), 1), 200),
                case
                    when failing.total > 1 then format('; such schedules: %s', failing.total)
                    else ''
                end)
            when overdue.name is not null then format(
                'nobody who may runs commands: schedules overdue: %s, "%s" since %s',
                overdue.total, overdue.name, _eram_when(overdue.next_run_at))
            else 'no schedule fails'
        end,
        case
            when failing.name is not null and failing.action in ('top_level', 'reindexer')
            then format(
                'select * from %I.eram_schedules where name = %L;',
                _eram_schema(), failing.name)
            when failing.name is not null
            then format('select %I.eram_run_schedule(%L);', _eram_schema(), failing.name)
            when overdue.name is not null
            then 'Run a worker, or python -m eram tick, as the owner of eram.'
        end,
        coalesce(failing.total, 0)
    from (select) as always
    left join lateral (
        select
            schedules.*,
            count(*) over () as total
        from eram_schedules as schedules
        where
            schedules.last_error is not null
            and not schedules.is_paused
        order by
            schedules.last_run_at desc,
            schedules.name
        limit 1
    ) as failing on true
    left join _eram_overdue_schedules(are_commands => true) as overdue
        on not exists (select from _eram_overdue_schedules(are_commands => false));
$$;
