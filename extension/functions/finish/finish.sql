-- What a worker says of the jobs that it holds. A finish counts only for the run that it names:
-- a worker that was taken for dead cannot finish the run of another. A lost race is normal life
-- and returns false, null or no row; a caller's mistake raises.

-- A claim guesses the plan from its text alone, and so does a completion: see eram_fetch().
create or replace function eram_complete_jobs(
    ids     bigint[],
    runs    integer[],
    results jsonb[] default null
)
    returns setof bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_nestloop to off
    set jit to off
as $$
declare
    c_most_noted constant integer := 200;
    v_ids        bigint[]         := ids;
    v_runs       integer[]        := runs;
    v_results    jsonb[]          := results;
    v_removes    boolean;
    v_removed    integer;
    v_announces  boolean;
begin
    perform _eram_check_runs(v_ids, v_runs);
    if v_results is not null and cardinality(v_results) <> cardinality(v_ids) then
        raise exception using
            errcode = 'array_subscript_error',
            message = format('ids and results must be lists of one length, got %s and %s',
                cardinality(v_ids), cardinality(v_results)),
            hint = 'Pass one result for each id, or none at all.';
    end if;

    select
        exists (select from eram_removals as removals),
        exists (select from eram_queues as queues where queues.is_announcing)
    into v_removes, v_announces;

    if v_removes then
        return query
        select removed.job_id
        from _eram_remove_completed(v_ids, v_runs, v_announces) as removed (job_id);

        get diagnostics v_removed = row_count;
        if v_removed = cardinality(v_ids) then
            return;
        end if;
    end if;

    return query
    with ended as (
        -- By an array of ids, so that it can be nothing but a scan of the index, in order of id,
        -- which is that of locking. The runs are looked up in a hash table: within a "case" this
        -- is not made a join.
        delete from eram_running_jobs as running
        where
            running.job_id = any (v_ids)
            and case
                when (running.job_id, running.run) in (
                    select asked.job_id, asked.run
                    from unnest(v_ids, v_runs) as asked (job_id, run)
                )
                then true
            end
        returning running.*, clock_timestamp() as finalized_at
    ),
    released as (
        -- A window goes on, whatever became of the job that began it.
        delete from eram_unique_keys as keys
        where
            keys.key = any (
                array(
                    select ended.unique_key
                    from ended
                    where ended.unique_key is not null
                )
            )
            and case
                when (keys.key, keys.job_id) in (select ended.unique_key, ended.job_id from ended)
                then true
            end
            and keys.expires_at is null
    ),
    noted as (
        -- So few in a row that none is stored out of line.
        insert into eram_completions as completions (queue, finalized_at, ids)
        select
            numbered.queue,
            max(numbered.finalized_at),
            array_agg(numbered.job_id)
        from (
            select
                ended.queue,
                ended.finalized_at,
                ended.job_id,
                row_number() over () - 1 as number
            from ended
        ) as numbered
        group by
            numbered.queue,
            numbered.number / c_most_noted
        -- Carried out to the end though nobody reads it, as the insert itself is.
        returning case
            when v_announces then _eram_announce(completions.queue, completions.ids, 'completed')
        end
    )
    insert into eram_finished_jobs
        (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue, result)
    select
        ended.job_id,
        ended.worker,
        ended.attempted_at,
        ended.finalized_at,
        ended.run,
        ended.attempt,
        'completed',
        ended.queue,
        asked.result
    from ended
    left join (
        select distinct on (given.job_id, given.run)
            given.job_id,
            given.run,
            given.result
        from unnest(v_ids, v_runs, v_results) as given (job_id, run, result)
        where given.result is not null
        order by
            given.job_id,
            given.run
    ) as asked
        on asked.job_id = ended.job_id and asked.run = ended.run
    order by ended.job_id
    returning job_id;
end;
$$;

comment on function eram_complete_jobs is
    'Report jobs as done, with their results if there are any. Returns the ids that were still '
    'these runs'' to complete; the others were lost to a rescue or a cancel.';

create or replace function eram_fail_job(
    id     bigint,
    run    integer,
    error  text,
    detail jsonb    default null,
    delay  interval default null
)
    returns text
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
    v_id     bigint   := id;
    v_run    integer  := run;
    v_error  text     := coalesce(error, 'no message');
    v_detail jsonb    := coalesce(detail, '{}');
    v_job    eram_running_jobs;
    v_spec   record;
begin
    perform _eram_check_runs(array[v_id], array[v_run]);
    perform _eram_check_object('detail', v_detail);
    if delay is not null then
        perform _eram_check_delay('delay', delay);
    end if;

    delete from eram_running_jobs as running
    where
        running.job_id = v_id
        and running.run = v_run
    returning * into v_job;

    if v_job.job_id is null then
        return null;
    end if;

    select
        specs.max_attempts,
        specs.backoff
    into v_spec
    from eram_job_specs as specs
    where specs.job_id = v_id;

    perform _eram_record_error(v_job, v_error, v_detail);

    if v_job.attempt >= v_spec.max_attempts then
        perform _eram_finish_job(v_job, 'discarded');
        return 'discarded';
    end if;

    perform _eram_requeue_job(
        v_job,
        v_job.attempt,
        coalesce(delay, _eram_backoff(v_job.attempt, v_spec.backoff)));
    return 'retryable';
end;
$$;

comment on function eram_fail_job is
    'Report that a run of a job failed. The job waits for its backoff, or for delay, and runs '
    'again, until its attempts are used up. Returns the new state, retryable or discarded; null '
    'when the run was no longer the caller''s.';

create or replace function eram_snooze_job(
    id    bigint,
    run   integer,
    delay interval
)
    returns boolean
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
    v_id  bigint  := id;
    v_run integer := run;
    v_job eram_running_jobs;
begin
    perform _eram_check_runs(array[v_id], array[v_run]);
    perform _eram_check_delay('delay', delay);

    delete from eram_running_jobs as running
    where
        running.job_id = v_id
        and running.run = v_run
    returning * into v_job;

    if v_job.job_id is null then
        return false;
    end if;

    perform _eram_requeue_job(v_job, v_job.attempt - 1, delay);
    return true;
end;
$$;

comment on function eram_snooze_job is
    'Put a job off: it runs again after delay, and this attempt does not count. Returns whether '
    'the run was still the caller''s.';

create or replace function eram_discard_job(
    id     bigint,
    run    integer,
    reason text default null
)
    returns boolean
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
    v_id  bigint  := id;
    v_run integer := run;
    v_job eram_running_jobs;
begin
    perform _eram_check_runs(array[v_id], array[v_run]);

    delete from eram_running_jobs as running
    where
        running.job_id = v_id
        and running.run = v_run
    returning * into v_job;

    if v_job.job_id is null then
        return false;
    end if;

    perform _eram_record_error(
        v_job,
        coalesce(reason, 'discarded by its handler'),
        '{"type": "discarded"}');
    perform _eram_finish_job(v_job, 'discarded');
    return true;
end;
$$;

comment on function eram_discard_job is
    'Give a job up for good, whatever attempts it has left. Returns whether the run was still '
    'the caller''s.';
