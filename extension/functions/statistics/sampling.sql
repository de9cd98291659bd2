-- How long jobs waited and took, of a sample: reading all of them would cost as much as a part of
-- their lives did.

-- Of jobs completed in a queue from then until before the other time: how long they waited, and
-- took. As many as asked for, from all over that time.
create or replace function _eram_sample_times(
    queue            text,
    first_at         timestamptz,
    before_at        timestamptz,
    sample           integer,
    completed_count  bigint,
    out wait_count   bigint,
    out run_count    bigint,
    out wait_times   interval[],
    out run_times    interval[]
)
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
    with named as (
        select
            completions.ids,
            completions.finalized_at,
            cardinality(completions.ids) as count,
            sum(cardinality(completions.ids)) over (
                order by completions.finalized_at
                rows unbounded preceding) as upto
        from eram_completions as completions
        where
            completions.queue = _eram_sample_times.queue
            and completions.finalized_at >= first_at
            and completions.finalized_at < before_at
            and completions.is_repeated is null
    ),
    -- Of every so many jobs one: some rows give several, and some none.
    picked as (
        select
            named.ids,
            named.finalized_at,
            named.count,
            (
                floor(named.upto / steps.step)
                - floor((named.upto - named.count) / steps.step)
            )::integer as picks
        from named
        cross join (
            select greatest(1, completed_count::numeric / greatest(sample, 1)) as step
        ) as steps
    )
    select
        count(*) filter (where finished.run = 1),
        count(*),
        percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
            order by greatest(finished.attempted_at - specs.scheduled_at, interval '0')
        ) filter (where finished.run = 1),
        percentile_cont('{0.5,0.95,0.99}'::double precision[]) within group (
            order by greatest(finished.finalized_at - finished.attempted_at, interval '0'))
    from picked
    cross join lateral (
        -- Those of one call differ least, so any will do.
        select unnest(picked.ids[1 : picked.picks]) as job_id
    ) as jobs
    -- Limits, because a join could be planned the other way round. One that was retried and
    -- completed again is named twice.
    cross join lateral (
        select finished.*
        from eram_finished_jobs as finished
        where
            finished.job_id = jobs.job_id
            and finished.state = 'completed'
            and finished.finalized_at <= picked.finalized_at
        limit 1
    ) as finished
    cross join lateral (
        select specs.scheduled_at
        from eram_job_specs as specs
        where specs.job_id = jobs.job_id
        limit 1
    ) as specs;
$$;

-- Two samples of one minute: each counts as much as there are jobs in it.
create or replace function _eram_merge_times(
    times       interval[],
    count       bigint,
    more_times  interval[],
    more_count  bigint
)
    returns interval[]
    language sql
    immutable
    set search_path from current
as $$
    select case
        when count > 0 and more_count > 0 then
            array(
                select
                    (parts.first * count::double precision
                        + parts.second * more_count::double precision)
                    / (count + more_count)
                from unnest(times, more_times) with ordinality as parts (first, second, number)
                order by parts.number
            )
        when more_count > 0 then more_times
        else times
    end;
$$;
