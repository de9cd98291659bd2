-- Whether few jobs can match a filter, as far as an index knows: what eram_find_jobs() asks first.

-- The jobs that can match, and a few that do not, if there are no more than so many; else null.
-- Without sequential and bitmap scans, because only an index scan ends when there are enough, and
-- finds that there are none without reading all others.
create or replace function _eram_few_jobs(
    states    text[],
    queues    text[],
    max_count integer
)
    returns bigint[]
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_custom_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
#variable_conflict use_column
declare
    c_rare     constant text[] := '{discarded,cancelled}';
    v_states   text[]          := states;
    v_queues   text[]          := queues;
    v_limit    integer         := max_count + 1;
    v_now      timestamptz     := statement_timestamp();
    v_rare     text[];
    v_ids      bigint[]        := '{}';
    v_some_ids bigint[];
begin
    if v_queues is null and v_states && '{available,completed}' then
        return null;
    end if;

    if 'executing' = any (v_states) then
        v_ids := array(
            select running.job_id
            from eram_running_jobs as running
            where v_queues is null or running.queue = any (v_queues)
            limit v_limit
        );
    end if;

    if 'available' = any (v_states) then
        v_some_ids := array(
            select queued.job_id
            from eram_queued_jobs as queued
            where queued.queue = any (v_queues)
            limit v_limit
        );
        v_ids := v_ids || v_some_ids;
    elsif v_states && '{scheduled,retryable}' then
        -- Those that are not due yet lie at the end of each lane, wherever that is.
        v_some_ids := array(
            with recursive lanes as (
                (
                    select
                        queued.queue,
                        queued.lane
                    from eram_queued_jobs as queued
                    where v_queues is null or queued.queue = any (v_queues)
                    order by
                        queued.queue,
                        queued.lane
                    limit 1
                )
                union all
                select
                    following.queue,
                    following.lane
                from lanes
                cross join lateral (
                    select
                        queued.queue,
                        queued.lane
                    from eram_queued_jobs as queued
                    where
                        (queued.queue, queued.lane) > (lanes.queue, lanes.lane)
                        and (v_queues is null or queued.queue = any (v_queues))
                    order by
                        queued.queue,
                        queued.lane
                    limit 1
                ) as following
            )
            select early.job_id
            from lanes
            cross join lateral (
                select queued.job_id
                from eram_queued_jobs as queued
                where
                    queued.queue = lanes.queue
                    and queued.lane = lanes.lane
                    and queued.scheduled_at > v_now
                limit v_limit
            ) as early
            limit v_limit
        );
        v_ids := v_ids || v_some_ids;
    end if;

    if 'completed' = any (v_states) then
        v_some_ids := array(
            select ended.job_id
            from eram_completions as completions
            cross join lateral unnest(completions.ids) as ended (job_id)
            where completions.queue = any (v_queues)
            limit v_limit
        );
        v_ids := v_ids || v_some_ids;
    end if;

    if v_states && c_rare then
        v_rare := array(
            select unnest(v_states)
            intersect
            select unnest(c_rare)
        );
        -- The index is a partial one, which its own words lead to.
        v_some_ids := array(
            select finished.job_id
            from eram_finished_jobs as finished
            where
                finished.state <> 'completed'
                and finished.state = any (v_rare)
                and (v_queues is null or finished.queue = any (v_queues))
            limit v_limit
        );
        v_ids := v_ids || v_some_ids;
    end if;

    return case when cardinality(v_ids) < v_limit then v_ids end;
end;
$$;

-- The same by what args or meta contain. The statistics say whether the index is worth it: where
-- many jobs are like that, so many are found at once.
create or replace function _eram_few_jobs_with(
    args      jsonb,
    meta      jsonb,
    max_count integer
)
    returns bigint[]
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_custom_plan
    set enable_seqscan to on
    set enable_bitmapscan to on
    set jit to off
as $$
declare
    v_args jsonb := args;
    v_meta jsonb := meta;
    v_ids  bigint[];
begin
    if v_args is null and v_meta is null then
        return null;
    end if;
    v_ids := array(
        select specs.job_id
        from eram_job_specs as specs
        where
            (v_args is null or specs.args @> v_args)
            and (v_meta is null or specs.meta @> v_meta)
        limit max_count + 1
    );
    return case when cardinality(v_ids) <= max_count then v_ids end;
end;
$$;
