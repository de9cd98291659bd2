-- What has happened lately, minute by minute: what is recorded, and what is not yet.

create or replace function eram_count_minutes(of_queue text default null)
    returns table (
        queue           text,
        minute          timestamptz,
        completed_count bigint,
        failed_count    bigint,
        discarded_count bigint,
        cancelled_count bigint,
        waiting_count   bigint,
        running_count   bigint,
        wait_times      interval[],
        run_times       interval[]
    )
    language sql
    stable
    security definer
    set search_path from current
    set jit to off
as $$
    with limits as (
        select
            date_trunc('minute', statement_timestamp(), 'UTC') - interval '59 minutes' as first_at
    ),
    uncounted as (
        select
            uncounted.queue,
            uncounted.minute,
            uncounted.completed_count,
            uncounted.failed_count,
            uncounted.discarded_count,
            uncounted.cancelled_count
        from limits
        cross join lateral _eram_last_recording() as last
        cross join lateral _eram_uncounted(
            greatest(last.first_at, limits.first_at),
            last.counted) as uncounted
        union all
        select
            removals.queue,
            date_trunc('minute', removals.finalized_at, 'UTC'),
            round(sum(removals.job_count) / min(shares.share)),
            round(sum(removals.failed_count) / min(shares.share)),
            0,
            0
        from _eram_last_recording() as last
        cross join (
            select _eram_share('eram_removal_counts'::regclass, _eram_most_pages())::numeric
        ) as shares (share)
        cross join eram_removal_counts as removals
            tablesample system (
                100 * _eram_share('eram_removal_counts'::regclass, _eram_most_pages()))
        where
            removals.failed_by is null
            or not pg_visible_in_snapshot(removals.failed_by, last.counted)
        group by 1, 2
    )
    select
        together.queue,
        together.minute,
        sum(together.completed_count)::bigint,
        sum(together.failed_count)::bigint,
        sum(together.discarded_count)::bigint,
        sum(together.cancelled_count)::bigint,
        max(together.waiting_count),
        max(together.running_count),
        max(together.wait_times),
        max(together.run_times)
    from (
        select
            minutes.queue,
            minutes.minute,
            minutes.completed_count,
            minutes.failed_count,
            minutes.discarded_count,
            minutes.cancelled_count,
            minutes.waiting_count,
            minutes.running_count,
            minutes.wait_times,
            minutes.run_times
        from eram_minutes as minutes
        union all
        select
            uncounted.*,
            null,
            null,
            null,
            null
        from uncounted
    ) as together
    where
        together.minute >= (select limits.first_at from limits)
        and (of_queue is null or together.queue = of_queue)
    group by
        together.queue,
        together.minute;
$$;

comment on function eram_count_minutes is
    'The rows of eram_throughput: what happened in each queue in each minute of the last hour. '
    'wait_times and run_times are what half of a sample, 95 % and 99 % of it waited and took at '
    'most. Of one queue it is cheaper than the view, which looks at all.';
