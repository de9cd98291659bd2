-- Giving back what was claimed but not started.

create or replace function eram_release_jobs(
    ids  bigint[],
    runs integer[]
)
    returns setof bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
declare
    v_ids  bigint[]  := ids;
    v_runs integer[] := runs;
begin
    perform _eram_check_runs(v_ids, v_runs);

    return query
    select returned.job_id
    from _eram_return_jobs(
        array(
            select running.job_id
            from unnest(v_ids, v_runs) as asked (job_id, run)
            join eram_running_jobs as running
                on running.job_id = asked.job_id and running.run = asked.run
            order by running.job_id
            for update of running
        ),
        0) as returned (job_id);
end;
$$;

comment on function eram_release_jobs is
    'Give back jobs that were claimed but not started: they go to the front of their priority, '
    'and the attempt does not count. Returns the ids that were still these runs'' to give back.';

create or replace function eram_release_other_jobs(
    worker bigint,
    queue  text,
    ids    bigint[],
    runs   integer[]
)
    returns setof bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    v_worker bigint    := worker;
    v_queue  text      := queue;
    v_ids    bigint[]  := ids;
    v_runs   integer[] := runs;
begin
    perform _eram_check_queue(v_queue);
    perform _eram_check_runs(v_ids, v_runs);

    -- A claim of the lost session can still be under way: it ends first.
    perform pg_advisory_xact_lock(
        'eram_running_jobs'::regclass::oid::integer,
        _eram_worker_key(v_worker));

    return query
    select returned.job_id
    from _eram_return_jobs(
        array(
            select running.job_id
            from eram_running_jobs as running
            where
                running.worker = v_worker
                and running.queue = v_queue
                and not exists (
                    select
                    from unnest(v_ids, v_runs) as held (job_id, run)
                    where held.job_id = running.job_id and held.run = running.run
                )
            order by running.job_id
            for update
        ),
        0) as returned (job_id);
end;
$$;

comment on function eram_release_other_jobs is
    'Give back what a worker holds of a queue apart from the runs named: jobs of claims whose '
    'answer got lost with its connection. Returns their ids.';
