-- Cancelling many jobs. What matches is cancelled wherever it is by now: a job that is claimed
-- under the hands of the cancel is cancelled while it runs. What is changed meanwhile, or moved to
-- another queue, so that it no longer matches, is not.

create or replace function eram_cancel_jobs(
    filter jsonb,
    reason text default null
)
    returns bigint
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
    c_states constant text[] := '{available,scheduled,retryable,executing}';
    v_filter jsonb           := filter;
    v_reason text            := left(reason, 10000);
    v_same   jsonb;
    v_wanted record;
    v_locked record;
    v_ended  record;
begin
    select
        array_agg(matching.job_id order by matching.job_id) as ids,
        array_agg(matching.place order by matching.job_id) as places,
        array_agg(matching.ticket order by matching.job_id) as tickets
    into v_wanted
    from _eram_matching_jobs(v_filter, c_states) as matching;

    -- Of one that another has moved, the state and its time may be different ones.
    v_same := v_filter - '{state,before,after}'::text[];
    if v_same = '{}' then
        v_same := '{"all": true}';
    end if;
    v_locked := _eram_lock_tickets(
        v_wanted.ids, v_wanted.places, v_wanted.tickets, v_same, c_states);

    -- The cancel of a waiting job takes a run of its own, as that of a single one does.
    with waiting as (
        delete from eram_queued_jobs as queued
        where queued.ctid = any (v_locked.queued)
        returning queued.*
    ),
    stopped as (
        delete from eram_running_jobs as running
        where running.ctid = any (v_locked.running)
        returning running.*
    ),
    told as (
        insert into eram_cancelled_runs (worker, job_id, run)
        select
            stopped.worker,
            stopped.job_id,
            stopped.run
        from stopped
    ),
    ended as (
        select job_id, worker, attempted_at, run, attempt, queue, unique_key
        from stopped
        union all
        select job_id, null, null, run + 1, attempt, queue, unique_key
        from waiting
    ),
    noted as (
        insert into eram_job_errors (job_id, run, attempt, worker, errored_at, error, detail)
        select
            ended.job_id,
            ended.run,
            ended.attempt,
            ended.worker,
            clock_timestamp(),
            v_reason,
            '{"type": "cancelled"}'
        from ended
        where v_reason is not null
    ),
    finished as (
        insert into eram_finished_jobs
            (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
        select
            ended.job_id,
            ended.worker,
            ended.attempted_at,
            clock_timestamp(),
            ended.run,
            ended.attempt,
            'cancelled',
            ended.queue
        from ended
    )
    select
        array_agg(ended.job_id) as ids,
        array_agg(ended.unique_key) filter (where ended.unique_key is not null) as keys,
        array_agg(ended.job_id) filter (where ended.unique_key is not null) as keyed_ids
    into v_ended
    from ended;

    perform _eram_release_keys(v_ended.keys, v_ended.keyed_ids);
    if exists (select from eram_queues as queues where queues.is_announcing) then
        perform _eram_announce(finished.queue, array_agg(finished.job_id), 'cancelled')
        from eram_finished_jobs as finished
        where finished.job_id = any (v_ended.ids)
        group by finished.queue;
    end if;

    return coalesce(cardinality(v_ended.ids), 0);
end;
$$;

comment on function eram_cancel_jobs is
    'Cancel the waiting and running jobs that match a filter: a JSON object whose keys must all '
    'hold. ids: a list. state, queue, handler: one or a list. tags: a list, all of which the job '
    'has. args, meta: an object that they contain. before, after: times with an offset, between '
    'which a job came into its state, after included; for a waiting job that is when it is due. '
    '{"all": true}: all jobs. Null, an empty filter and unknown keys are errors. Returns how many '
    'were cancelled.';
