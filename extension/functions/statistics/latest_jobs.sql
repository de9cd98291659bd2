-- The jobs that ended last, for what is said of their times and handlers. As many are looked up as
-- is cheap, and no more.

-- How many of each queue, when there may be so many of all; but some of each, and not too many.
create or replace function _eram_most_of_each(most integer, most_of_one integer, queue_count bigint)
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select greatest(10, least(most_of_one, most / greatest(queue_count, 1)))::integer;
$$;

-- The jobs completed last, of all queues or one; whether there were more since then.
create or replace function _eram_latest_completed(
    first_at    timestamptz,
    most        integer,
    most_of_one integer,
    of_queue    text default null
)
    returns table (queue text, job_id bigint, finalized_at timestamptz, is_cut boolean)
    language sql
    stable
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
    with places as materialized (
        select
            completing.queue,
            _eram_most_of_each(most, most_of_one, count(*) over ()) as most
        from (
            select of_queue
            where of_queue is not null
            union all
            select completing.queue
            from _eram_completing_queues(first_at) as completing
            where of_queue is null
        ) as completing (queue)
    ),
    named as (
        select
            places.queue,
            places.most,
            newest.ids,
            newest.finalized_at,
            newest.upto - cardinality(newest.ids) as before,
            newest.count >= places.most as is_cut
        from places
        cross join lateral (
            select
                latest.ids,
                latest.finalized_at,
                sum(cardinality(latest.ids)) over () as count,
                sum(cardinality(latest.ids)) over (
                    order by latest.finalized_at desc
                    rows unbounded preceding) as upto
            from (
                select
                    completions.ids,
                    completions.finalized_at
                from eram_completions as completions
                where
                    completions.queue = places.queue
                    and completions.finalized_at >= first_at
                    and completions.is_repeated is null
                order by completions.finalized_at desc
                limit places.most
            ) as latest
        ) as newest
        where newest.upto - cardinality(newest.ids) < places.most
    )
    select
        named.queue,
        jobs.job_id,
        named.finalized_at,
        named.is_cut
    from named
    cross join lateral unnest(named.ids[1 : (named.most - named.before)::integer])
        as jobs (job_id);
$$;

create or replace function eram_measure_latency(of_queue text default null)
    returns table (
        queue        text,
        sample_count bigint,
        wait_times   interval[],
        run_times    interval[],
        newest_at    timestamptz
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
    select
        finished.queue,
        count(*),
        percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
            order by greatest(finished.attempted_at - specs.scheduled_at, interval '0')
        ) filter (where finished.run = 1),
        percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
            order by greatest(finished.finalized_at - finished.attempted_at, interval '0')),
        max(finished.finalized_at)
    from _eram_latest_completed(
        statement_timestamp() - interval '1 hour', 20000, 1000, of_queue) as latest
    -- Limits, because a join could be planned the other way round. One that was retried and
    -- completed again is named twice.
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
        select specs.scheduled_at
        from eram_job_specs as specs
        where specs.job_id = latest.job_id
        limit 1
    ) as specs
    group by finished.queue;
$$;

comment on function eram_measure_latency is
    'The rows of eram_latency: of the jobs of each queue that were completed last, within the last '
    'hour, what half, 95 % and 99 % of them waited (first runs only) and took at most. Of one '
    'queue it is cheaper than the view, which looks at all.';
