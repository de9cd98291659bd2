-- Telling those who wait for the end of jobs. Only queues that are set so announce: a NOTIFY takes
-- a lock of the whole cluster at commit. Whoever moves jobs to eram_finished_jobs, or removes
-- them on completion, calls _eram_announce(); it is heard when, and if, that transaction commits.
-- Deleting is not announced: nothing has ended, and who waits looks again now and then anyhow.

create or replace function _eram_outcome_channel(queue text)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select 'eram_outcome_' || md5('eram_finished_jobs'::regclass::oid || ':' || queue);
$$;

-- A payload must be shorter than 8,000 bytes, whatever the ids.
create or replace function _eram_announce(queue text, ids bigint[], state text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_most_ids constant integer := 350;
    v_queue    text             := queue;
    v_channel  text;
begin
    -- eram.notify is for sessions that must not notify: NOTIFY forbids PREPARE TRANSACTION.
    if current_setting('eram.notify', true) = 'off'
        or not exists (
            select
            from eram_queues as queues
            where queues.name = v_queue and queues.is_announcing
        )
    then
        return;
    end if;

    v_channel := _eram_outcome_channel(v_queue);
    for i in 1..cardinality(ids) by c_most_ids loop
        perform pg_notify(
            v_channel,
            json_build_object('state', state, 'ids', ids[i:i + c_most_ids - 1])::text);
    end loop;
end;
$$;

-- An end that was reported in a run of its own has its message there, and no other run's.
create or replace function eram_outcome(
    id           bigint,
    out state    text,
    out result   jsonb,
    out error    text,
    out is_final boolean,
    out channel  text
)
    language plpgsql
    stable
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    v_id    bigint := id;
    v_place record;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;

    -- One snapshot, that of the calling statement: a job on its way is seen in one place.
    select places.* into v_place
    from (
        select
            case
                when queued.scheduled_at <= statement_timestamp() then 'available'
                when queued.attempt > 0 then 'retryable'
                else 'scheduled'
            end as state,
            queued.queue,
            null::integer as run,
            null::jsonb as result
        from eram_queued_jobs as queued
        where queued.job_id = v_id
        union all
        select 'executing', running.queue, null, null
        from eram_running_jobs as running
        where running.job_id = v_id
        union all
        select finished.state, finished.queue, finished.run, finished.result
        from eram_finished_jobs as finished
        where finished.job_id = v_id
    ) as places;

    if v_place.state is null then
        -- The sequence has handed the id out, but there is nothing left of the job.
        is_final := exists (
            select
            from eram_job_specs_job_id_seq as sequences
            where v_id between 1 and sequences.last_value and sequences.is_called
        );
        if not is_final then
            raise exception using
                errcode = 'undefined_object',
                message = format('job %s does not exist', v_id),
                hint = 'It never was; the functions that enqueue return the ids of jobs.';
        end if;
        return;
    end if;

    state := v_place.state;
    result := v_place.result;
    is_final := v_place.run is not null;
    if state in ('discarded', 'cancelled') then
        error := (
            select errors.error
            from eram_job_errors as errors
            where errors.job_id = v_id and errors.run = v_place.run
        );
    end if;
    if exists (
        select
        from eram_queues as queues
        where queues.name = v_place.queue and queues.is_announcing
    ) then
        channel := _eram_outcome_channel(v_place.queue);
    end if;
end;
$$;

comment on function eram_outcome is
    'Where a job stands now. result is that of a completed job, error why one was discarded or '
    'cancelled. is_final: it has ended; only eram_retry_job can change that. The state is null and '
    'is_final true when nothing is left of the job: it was pruned, deleted, removed on completion, '
    'or its enqueue was rolled back or has not been committed yet; an id that no job ever had is '
    'an error. channel: where its end is announced if its queue announces (eram_set_queue), null '
    'otherwise. Listen there first, look again then, and now and then while waiting: a job that is '
    'deleted, or moved to a queue that does not announce, is not announced. A payload is '
    '{"state": ..., "ids": [...]}, jobs of the queue that have ended so; one call may send '
    'several. Every role that can connect to the database can listen there.';
