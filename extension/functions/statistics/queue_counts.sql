-- What the view eram_queue_stats shows of jobs: what waits, what runs, and what the last minute
-- brought.

-- What was completed, and which attempts failed, in the last minute. Of what is more than can be
-- read at once, the latest is taken for its share of the minute.
create or replace function _eram_last_minute()
    returns table (
        queue           text,
        completed_count bigint,
        failed_count    bigint,
        is_estimate     boolean
    )
    language sql
    stable
    set search_path from current
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
    with limits as (
        select
            statement_timestamp() as now,
            statement_timestamp() - interval '1 minute' as first_at,
            10000 as most
    ),
    completed as (
        select
            places.queue,
            sum(cardinality(newest.ids)) as count,
            count(*) as row_count,
            min(newest.finalized_at) as first_at
        from limits
        cross join lateral _eram_completing_queues(limits.first_at) as places
        cross join lateral (
            select
                completions.ids,
                completions.finalized_at
            from eram_completions as completions
            where
                completions.queue = places.queue
                and completions.finalized_at > limits.first_at
                and completions.is_repeated is null
            order by completions.finalized_at desc
            limit limits.most
        ) as newest
        group by places.queue
    ),
    removed as (
        select
            removals.queue,
            sum(removals.job_count) as count
        from eram_removal_counts as removals
            tablesample system (
                100 * _eram_share('eram_removal_counts'::regclass, _eram_most_pages()))
        cross join limits
        where removals.finalized_at > limits.first_at
        group by removals.queue
    ),
    failures as (
        select
            errors.job_id,
            errors.errored_at
        from limits
        cross join lateral (
            select
                errors.job_id,
                errors.errored_at
            from eram_job_errors as errors
            where
                errors.errored_at > limits.first_at
                and errors.detail ->> 'type' is distinct from 'cancelled'
            order by errors.errored_at desc
            limit limits.most
        ) as errors
    ),
    -- How much more the whole minute is than the part of it that was read.
    failing as (
        select
            case
                when count(*) < limits.most then 1
                else greatest(
                    1,
                    60 / greatest(extract(epoch from limits.now - min(failures.errored_at)), 0.1))
            end as factor
        from limits
        cross join failures
        group by
            limits.most,
            limits.now
    ),
    failed as (
        select
            specs.queue,
            count(*) as count
        from failures
        cross join lateral (
            select specs.queue
            from eram_job_specs as specs
            where specs.job_id = failures.job_id
            limit 1
        ) as specs
        group by specs.queue
    )
    select
        together.queue,
        round(sum(together.completed))::bigint,
        round(sum(together.failed))::bigint,
        bool_or(together.is_estimate)
    from (
        select
            completed.queue,
            completed.count * case
                when completed.row_count < limits.most then 1
                else greatest(
                    1,
                    60 / greatest(extract(epoch from limits.now - completed.first_at), 0.1))
            end as completed,
            0 as failed,
            completed.row_count >= limits.most as is_estimate
        from completed
        cross join limits
        union all
        select
            removed.queue,
            removed.count / shares.share,
            0,
            shares.share < 1
        from removed
        cross join (
            select _eram_share('eram_removal_counts'::regclass, _eram_most_pages())::numeric
        ) as shares (share)
        union all
        select
            failed.queue,
            0,
            failed.count * failing.factor,
            failing.factor > 1
        from failed
        cross join failing
    ) as together
    group by together.queue;
$$;

create or replace function eram_count_jobs()
    returns table (
        queue                text,
        waiting_count        bigint,
        due_count            bigint,
        retryable_count      bigint,
        oldest_due_at        timestamptz,
        running_count        bigint,
        completed_per_minute bigint,
        failed_per_minute    bigint,
        is_estimate          boolean
    )
    language sql
    stable
    security definer
    set search_path from current
    set jit to off
as $$
    with shares as (
        select _eram_share('eram_running_jobs'::regclass, _eram_most_pages()) as share
    ),
    running as (
        select
            places.queue,
            round(count(*) / min(shares.share))::bigint as count,
            min(shares.share) < 1 as is_estimate
        from eram_running_jobs as places
            tablesample system (
                100 * _eram_share('eram_running_jobs'::regclass, _eram_most_pages()))
        cross join shares
        group by places.queue
    )
    select
        queue,
        coalesce(waiting.waiting_count, 0),
        coalesce(waiting.due_count, 0),
        coalesce(waiting.retryable_count, 0),
        waiting.oldest_due_at,
        coalesce(running.count, 0),
        coalesce(lately.completed_count, 0),
        coalesce(lately.failed_count, 0),
        coalesce(waiting.is_estimate, false)
            or coalesce(running.is_estimate, false)
            or coalesce(lately.is_estimate, false)
    from _eram_count_waiting() as waiting
    full join running using (queue)
    full join _eram_last_minute() as lately using (queue);
$$;

comment on function eram_count_jobs is
    'The counts of jobs that eram_queue_stats shows, a row for each queue that has any: what '
    'waits, what runs, what the last minute brought. Its cost is bounded, however many jobs there '
    'are; is_estimate says that counts above 10,000 are estimates.';
