-- Checks of eram_health() for queues, all three by one look at eram_queue_stats.

-- The due job of a queue that has waited for longest: a step into each lane.
create or replace function _eram_oldest_due_job(queue text)
    returns bigint
    language sql
    volatile
    set search_path from current
    set enable_seqscan to off
as $$
    select first.job_id
    from generate_series(0, 19) as lanes (lane)
    cross join lateral (
        select
            queued.job_id,
            queued.scheduled_at
        from eram_queued_jobs as queued
        where
            queued.queue = _eram_oldest_due_job.queue
            and queued.lane = lanes.lane::smallint
            and queued.scheduled_at <= clock_timestamp()
        order by
            queued.scheduled_at,
            queued.job_id
        limit 1
    ) as first
    order by
        first.scheduled_at,
        first.job_id
    limit 1;
$$;

-- As an argument in a shell. Without a backslash, which means another thing where
-- standard_conforming_strings is off.
create or replace function _eram_shell_word(word text)
    returns text
    language sql
    immutable
    set search_path from current
as $$
    select case
        when word ~ '^[A-Za-z0-9_./=:-]+$' then word
        else '''' || replace(word, '''', E'''\\''''') || ''''
    end;
$$;

create or replace function _eram_health_queues()
    returns table (name text, level text, finding text, action text, value double precision)
    language sql
    volatile
    set search_path from current
as $$
    with queues as materialized (
        select
            stats.queue,
            stats.worker_count > 0 as is_served,
            stats.due_count,
            stats.oldest_due_age,
            case
                when stats.is_paused then 0
                else coalesce(extract(epoch from stats.oldest_due_age), 0)::double precision
            end as seconds,
            stats.failed_per_minute as failed,
            stats.failed_per_minute + stats.completed_per_minute as ended,
            case
                when stats.failed_per_minute >= _eram_health_least_failures()
                then stats.failed_per_minute::double precision
                    / (stats.failed_per_minute + stats.completed_per_minute)
            end as failed_share
        from eram_queue_stats as stats
    ),
    unserved as (
        select
            queues.*,
            _eram_health_level('unserved_seconds', queues.seconds) as level
        from queues
        where not queues.is_served
    ),
    served as (
        select
            queues.*,
            _eram_health_level('backlog_seconds', queues.seconds) as level
        from queues
        where queues.is_served
    )
    select
        'queues',
        coalesce(worst.level, 'ok'),
        case
            when worst.level <> 'ok' then format(
                'nobody serves a queue: "%s" has %s due jobs, the first for %s%s',
                worst.queue,
                worst.due_count,
                _eram_span(worst.oldest_due_age),
                case
                    when counts.total > 1 then format('; such queues: %s', counts.total)
                    else ''
                end)
            else 'every queue with due jobs has a worker'
        end,
        format(
            'python -m eram worker --queue %s --allow MODULE',
            _eram_shell_word(worst.queue || '=10')),
        counts.total
    from (select count(*) from unserved where unserved.level <> 'ok') as counts (total)
    left join lateral (
        select unserved.* from unserved order by unserved.seconds desc, unserved.queue limit 1
    ) as worst on true
    union all
    select
        'backlog',
        coalesce(worst.level, 'ok'),
        case
            when worst.level <> 'ok' then format(
                'queue "%s" has %s due jobs, the first for %s',
                worst.queue, worst.due_count, _eram_span(worst.oldest_due_age))
            when worst.seconds > 0 then format(
                'the oldest due job waits for %s', _eram_span(worst.oldest_due_age))
            else 'no due job waits'
        end,
        case
            when worst.level <> 'ok' then format(
                'select %I.eram_why(%s);', _eram_schema(), _eram_oldest_due_job(worst.queue))
        end,
        coalesce(worst.seconds, 0)
    from (select) as always
    left join lateral (
        select served.* from served order by served.seconds desc, served.queue limit 1
    ) as worst on true
    union all
    select
        'failures',
        coalesce(_eram_health_level('failed_share', worst.failed_share), 'ok'),
        case
            when worst.failed_share > 0 then format(
                'queue "%s": %s of %s attempts failed in the last minute',
                worst.queue, worst.failed, worst.ended)
            else 'hardly an attempt has failed in the last minute'
        end,
        format(
            'select handler, left(error, 100) as error, count(*), max(errored_at) '
                'from %I.eram_errors where errored_at > now() - interval ''10 minutes'' '
                'group by 1, 2 order by 3 desc limit 10;',
            _eram_schema()),
        coalesce(worst.failed_share, 0)
    from (select) as always
    left join lateral (
        select queues.*
        from queues
        where queues.failed_share is not null
        order by
            queues.failed_share desc,
            queues.failed desc,
            queues.queue
        limit 1
    ) as worst on true;
$$;
