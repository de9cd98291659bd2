-- The two ways out of eram_running_jobs for one job, for those who have just taken it out.

create or replace function _eram_finish_job(job eram_running_jobs, state text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    if job.unique_key is not null then
        perform _eram_release_keys(array[job.unique_key], array[job.job_id]);
    end if;

    insert into eram_finished_jobs
        (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
    values (
        job.job_id, job.worker, job.attempted_at, clock_timestamp(),
        job.run, job.attempt, state, job.queue);
    perform _eram_announce(job.queue, array[job.job_id], state);
end;
$$;

-- The attempt is passed, because some ways back give it back. Nothing enters a lane in the
-- past: the clock is read when the transaction has its id and has waited for all that it waits
-- for.
create or replace function _eram_requeue_job(
    job     eram_running_jobs,
    attempt integer,
    delay   interval
)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_now timestamptz;
begin
    perform _eram_wake(job.queue);

    v_now := clock_timestamp();
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    values (
        job.job_id, greatest(v_now + delay, v_now),
        job.run, attempt, _eram_normal_lane(job.lane), job.queue, job.unique_key);
end;
$$;

-- Two lanes a priority: even ones for jobs that came back, or were changed when they were due; odd
-- ones for all others.
create or replace function _eram_normal_lane(lane smallint)
    returns smallint
    language sql
    immutable
    set search_path from current
as $$
    select (lane | 1)::smallint;
$$;

create or replace function _eram_return_lane(lane smallint)
    returns smallint
    language sql
    immutable
    set search_path from current
as $$
    select (lane & ~1)::smallint;
$$;

create or replace function _eram_record_error(job eram_running_jobs, error text, detail jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_most_letters constant integer := 10000;
    c_most_bytes   constant integer := 32000;
    v_detail       jsonb            := detail;
begin
    -- With nothing added, it is not as small as where it came from compressed.
    if pg_column_size(v_detail || '{}') > c_most_bytes then
        v_detail := _eram_bound_detail(v_detail, c_most_bytes);
    end if;

    insert into eram_job_errors (job_id, run, attempt, worker, errored_at, error, detail)
    values (
        job.job_id, job.run, job.attempt, job.worker, clock_timestamp(),
        left(error, c_most_letters), v_detail);
end;
$$;

-- Running jobs go back to the front of their priority. The caller has locked them, in order of id.
create or replace function _eram_return_jobs(ids bigint[], used_attempts integer)
    returns setof bigint
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_ids bigint[] := ids;
    v_now timestamptz;
begin
    perform pg_current_xact_id();

    perform _eram_wake(queues.name)
    from (
        select distinct running.queue
        from eram_running_jobs as running
        where running.job_id = any (v_ids)
    ) as queues (name);

    v_now := clock_timestamp();

    return query
    with gone as (
        delete from eram_running_jobs as running
        where running.job_id = any (v_ids)
        returning running.*
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    select
        gone.job_id,
        v_now,
        gone.run,
        gone.attempt - 1 + used_attempts,
        _eram_return_lane(gone.lane),
        gone.queue,
        gone.unique_key
    from gone
    returning job_id;
end;
$$;
