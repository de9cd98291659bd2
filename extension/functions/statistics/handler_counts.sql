-- What the view eram_handler_stats shows.

-- Of each kind the newest ten thousand.
create or replace function eram_count_handlers()
    returns table (
        handler         text,
        running_count   bigint,
        completed_count bigint,
        failed_count    bigint,
        discarded_count bigint,
        wait_times      interval[],
        run_times       interval[],
        last_errored_at timestamptz,
        last_error      text,
        is_estimate     boolean
    )
    language sql
    stable
    security definer
    set search_path from current
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
    with limits as (
        select
            statement_timestamp() - interval '1 hour' as first_at,
            10000 as most
    ),
    latest as materialized (
        select
            latest.job_id,
            latest.finalized_at,
            latest.is_cut or count(*) over () > limits.most as is_cut
        from limits
        cross join lateral _eram_latest_completed(
            limits.first_at, limits.most, limits.most) as latest
        order by latest.finalized_at desc
        limit 10000
    ),
    completed as (
        select
            specs.handler,
            count(*) as count,
            percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
                order by greatest(finished.attempted_at - specs.scheduled_at, interval '0')
            ) filter (where finished.run = 1) as wait_times,
            percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
                order by greatest(finished.finalized_at - finished.attempted_at, interval '0')
            ) as run_times
        from latest
        -- Limits, here and below, because a join could be planned the other way round. One that was
        -- retried and completed again is named twice.
        cross join lateral (
            select finished.*
            from eram_finished_jobs as finished
            where
                finished.job_id = latest.job_id
                and finished.state = 'completed'
                and finished.finalized_at <= latest.finalized_at
            limit 1
        ) as finished
        cross join lateral (
            select
                specs.handler,
                specs.scheduled_at
            from eram_job_specs as specs
            where specs.job_id = latest.job_id
            limit 1
        ) as specs
        group by specs.handler
    ),
    ended as materialized (
        select
            newest.job_id,
            count(*) over (partition by places.queue) >= places.most as is_cut
        from limits
        cross join lateral (
            select
                ending.*,
                _eram_most_of_each(limits.most, limits.most, count(*) over ()) as most
            from _eram_ending_queues(limits.first_at) as ending
            where ending.state = 'discarded'
        ) as places
        cross join lateral (
            select finished.job_id
            from eram_finished_jobs as finished
            where
                finished.state <> 'completed'
                and finished.state = places.state
                and finished.queue = places.queue
                and finished.finalized_at >= limits.first_at
            order by finished.finalized_at desc
            limit places.most
        ) as newest
    ),
    discarded as (
        select
            specs.handler,
            count(*) as count
        from ended
        cross join lateral (
            select specs.handler
            from eram_job_specs as specs
            where specs.job_id = ended.job_id
            limit 1
        ) as specs
        group by specs.handler
    ),
    failures as materialized (
        select newest.*
        from limits
        cross join lateral (
            select
                errors.job_id,
                errors.run,
                errors.errored_at
            from eram_job_errors as errors
            where
                errors.errored_at >= limits.first_at
                and errors.detail ->> 'type' is distinct from 'cancelled'
            order by errors.errored_at desc
            limit limits.most
        ) as newest
    ),
    failed as (
        select
            specs.handler,
            count(*) as count,
            max(failures.errored_at) as last_at,
            (array_agg(failures.job_id order by failures.errored_at desc))[1] as last_job_id,
            (array_agg(failures.run order by failures.errored_at desc))[1] as last_run
        from failures
        cross join lateral (
            select specs.handler
            from eram_job_specs as specs
            where specs.job_id = failures.job_id
            limit 1
        ) as specs
        group by specs.handler
    ),
    holding as materialized (
        select running.job_id
        from eram_running_jobs as running
            tablesample system (
                100 * _eram_share('eram_running_jobs'::regclass, _eram_most_pages()))
        limit 10000
    ),
    running as (
        select
            specs.handler,
            count(*) as count
        from holding
        cross join lateral (
            select specs.handler
            from eram_job_specs as specs
            where specs.job_id = holding.job_id
            limit 1
        ) as specs
        group by specs.handler
    ),
    cuts as (
        select
            coalesce((select bool_or(latest.is_cut) from latest), false)
                or coalesce((select bool_or(ended.is_cut) from ended), false)
                or (select count(*) from failures) >= limits.most
                or (select count(*) from holding) >= limits.most
                or _eram_share('eram_running_jobs'::regclass, _eram_most_pages()) < 1
                as is_estimate
        from limits
    ),
    -- Not joined: there may be as many handlers as jobs, and a nested loop over them is quadratic.
    together (
        handler, running_count, completed_count, failed_count, discarded_count, wait_times,
        run_times, last_at, last_job_id, last_run
    ) as (
        select
            running.handler, running.count, 0, 0, 0, null::interval[], null::interval[],
            null::timestamptz, null::bigint, null::integer
        from running
        union all
        select
            completed.handler, 0, completed.count, 0, 0, completed.wait_times,
            completed.run_times, null, null, null
        from completed
        union all
        select
            failed.handler, 0, 0, failed.count, 0, null, null, failed.last_at,
            failed.last_job_id, failed.last_run
        from failed
        union all
        select
            discarded.handler, 0, 0, 0, discarded.count, null, null, null, null, null
        from discarded
    )
    select
        by_handler.handler,
        by_handler.running_count,
        by_handler.completed_count,
        by_handler.failed_count,
        by_handler.discarded_count,
        by_handler.wait_times,
        by_handler.run_times,
        by_handler.last_at,
        (
            select errors.error
            from eram_job_errors as errors
            where errors.job_id = by_handler.last_job_id and errors.run = by_handler.last_run
        ),
        cuts.is_estimate
    from (
        select
            together.handler,
            sum(together.running_count)::bigint as running_count,
            sum(together.completed_count)::bigint as completed_count,
            sum(together.failed_count)::bigint as failed_count,
            sum(together.discarded_count)::bigint as discarded_count,
            max(together.wait_times) as wait_times,
            max(together.run_times) as run_times,
            max(together.last_at) as last_at,
            max(together.last_job_id) as last_job_id,
            max(together.last_run) as last_run
        from together
        group by together.handler
    ) as by_handler
    cross join cuts;
$$;

comment on function eram_count_handlers is
    'The rows of eram_handler_stats: by handler, what runs, and what ended in the last hour, of '
    'each kind the newest 10,000 at most; then is_estimate is true.';
