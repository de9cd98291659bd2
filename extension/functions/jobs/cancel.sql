-- Cancelling. A job may be on its way from one place to another: whoever moves one job looks
-- where it is until it finds it.

create or replace function eram_cancel_job(
    id     bigint,
    reason text    default null,
    run    integer default null
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
    c_looks constant integer := 1000;
    v_id    bigint           := id;
    v_run   integer          := run;
    v_job   eram_running_jobs;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;

    for i in 1..c_looks loop
        delete from eram_running_jobs as running
        where
            running.job_id = v_id
            and running.run = coalesce(v_run, running.run)
        returning * into v_job;

        if v_job.job_id is not null then
            -- A handler that cancels its own run knows it; any other worker is told by its
            -- heartbeat.
            if v_run is null then
                insert into eram_cancelled_runs (worker, job_id, run)
                values (v_job.worker, v_id, v_job.run);
            end if;
            exit;
        end if;

        if v_run is not null then
            return false;
        end if;

        -- The cancel of a waiting job takes a run of its own, because its last one may have
        -- left an error.
        delete from eram_queued_jobs as queued
        where queued.job_id = v_id
        returning
            queued.job_id, null, null, queued.run + 1, queued.attempt, queued.lane, queued.queue,
            queued.unique_key
        into v_job;

        exit when v_job.job_id is not null;

        if exists (select from eram_finished_jobs as finished where finished.job_id = v_id) then
            return false;
        elsif not exists (select from eram_job_specs as specs where specs.job_id = v_id) then
            raise exception using
                errcode = 'undefined_object',
                message = format('job %s does not exist', v_id),
                hint = 'It was pruned, or never was.';
        end if;
    end loop;

    if v_job.job_id is null then
        raise exception using
            errcode = 'data_corrupted',
            message = format('job %s is in no place', v_id),
            hint = 'See what eram_check() returns.';
    end if;

    if reason is not null then
        perform _eram_record_error(v_job, reason, '{"type": "cancelled"}');
    end if;
    perform _eram_finish_job(v_job, 'cancelled');
    return true;
end;
$$;

comment on function eram_cancel_job is
    'Cancel a job, waiting or running; a running one''s worker learns of it by its heartbeat, '
    'and what it still reports is not accepted. With run, only that run. Returns false when the '
    'job had already ended or the run was another''s.';
