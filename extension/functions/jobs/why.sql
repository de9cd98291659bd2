-- Why a job is not running: one sentence for each reason that holds now. It only reads, waits for
-- nothing, and counts no further than it says.

create or replace function _eram_when(moment timestamptz)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select date_trunc('second', moment)::text;
$$;

create or replace function _eram_span(span interval)
    returns text
    language sql
    immutable
    set search_path from current
as $$
    select date_trunc('second', greatest(span, interval '0'))::text;
$$;

-- What a run left behind if it did not end well: its message, to the end of the first line.
create or replace function _eram_first_line(id bigint, run integer)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select rtrim(left(split_part(errors.error, chr(10), 1), 200), '. ')
    from eram_job_errors as errors
    where
        errors.job_id = id
        and errors.run = _eram_first_line.run;
$$;

create or replace function _eram_worker_words(worker bigint)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select format('worker %s', worker)
        || coalesce(
            (
                select format(' ("%s")', workers.name)
                from eram_workers as workers
                where workers.id = worker
            ),
            '');
$$;

create or replace function _eram_why_executing(
    job     eram_running_jobs,
    timeout interval,
    held_by text
)
    returns text
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_job     eram_running_jobs := job;
    v_timeout interval          := timeout;
    v_now     timestamptz       := clock_timestamp();
    v_worker  eram_workers;
    v_why     text;
begin
    v_why := format(
        'It is executing: %s has run it since %s (%s).',
        _eram_worker_words(v_job.worker),
        _eram_when(v_job.attempted_at),
        _eram_span(v_now - v_job.attempted_at));
    if held_by is not null then
        v_why := v_why || format(' The end of this run is in %s.', held_by);
    end if;
    if v_job.attempted_at + v_timeout < v_now then
        v_why := v_why || format(' Its timeout of %s is over.', v_timeout);
    end if;

    select workers.* into v_worker
    from eram_workers as workers
    where workers.id = v_job.worker;

    return v_why || case
        when v_worker.id is null then ' That worker is not known: the job will be rescued.'
        when v_worker.ended_at is not null then format(
            ' That worker has %s at %s: the job will be rescued.',
            v_worker.end_reason,
            _eram_when(v_worker.ended_at))
        when v_worker.is_direct
            and _eram_worker_key(v_worker.id) <> all (_eram_held_keys('eram_workers'::regclass))
        then format(
            ' That worker is missing since %s: it is declared dead if it does not come back.',
            _eram_when(coalesce(v_worker.missing_since, v_now)))
        when v_worker.heartbeat_at < v_now - _eram_longest_silence() then format(
            ' That worker is silent since %s.',
            _eram_when(v_worker.heartbeat_at))
        else ''
    end;
end;
$$;

create or replace function _eram_why_ended(job eram_finished_jobs, max_attempts integer)
    returns text
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_job  eram_finished_jobs := job;
    v_line text               := _eram_first_line(v_job.job_id, v_job.run);
    v_why  text;
begin
    v_why := format('It was %s at %s, ', v_job.state, _eram_when(v_job.finalized_at))
        || case
            when v_job.worker is null then 'while it waited'
            else format(
                'in attempt %s of %s by %s',
                v_job.attempt, max_attempts, _eram_worker_words(v_job.worker))
        end
        || case
            when v_job.state <> 'discarded' or v_job.attempt < max_attempts
            then coalesce(': ' || v_line, '')
            else coalesce(', the last one: ' || v_line, ', the last one')
        end
        || '.';

    if exists (
        select
        from eram_cancelled_runs as cancelled
        where
            cancelled.worker = v_job.worker
            and cancelled.job_id = v_job.job_id
    ) then
        v_why := v_why || ' That worker has not been told yet.';
    end if;
    return v_why;
end;
$$;

create or replace function eram_why(id bigint)
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
    v_id      bigint := id;
    v_job     record;
    v_last_id bigint;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;

    -- One statement, so that the job is in one place.
    select
        specs.max_attempts,
        specs.timeout,
        queued,
        queued.xmax as queued_xmax,
        running,
        running.xmax as running_xmax,
        finished
    into v_job
    from eram_job_specs as specs
    left join eram_queued_jobs as queued on queued.job_id = specs.job_id
    left join eram_running_jobs as running on running.job_id = specs.job_id
    left join eram_finished_jobs as finished on finished.job_id = specs.job_id
    where specs.job_id = v_id;

    if not found then
        select case when sequence.is_called then sequence.last_value else 0 end into v_last_id
        from eram_job_specs_job_id_seq as sequence;

        return case
            when v_id between 1 and v_last_id
            then 'There is no such job: it was pruned or deleted, or its enqueue was rolled back '
                'or is not committed.'
            else format('There never was such a job: the last id is %s.', v_last_id)
        end;
    end if;

    return case
        when (v_job.finished).job_id is not null
        then _eram_why_ended(v_job.finished, v_job.max_attempts)
        when (v_job.running).job_id is not null
        then _eram_why_executing(
            v_job.running, v_job.timeout,
            _eram_holder_words(v_job.running_xmax, 'eram_running_jobs'::regclass))
        when (v_job.queued).job_id is not null
        then _eram_why_waiting(
            v_job.queued, v_job.max_attempts,
            _eram_holder_words(v_job.queued_xmax, 'eram_queued_jobs'::regclass))
        else 'It is in no place, which eram_check() reports.'
    end;
end;
$$;

comment on function eram_why is
    'Say why a job is not running, in a sentence for each reason: its queue is paused or its limit '
    'reached, no worker serves it, the job is not due, others are ahead of it, it runs already, it '
    'has ended, or it is not there. Of other jobs it counts no more than a thousand, or as many as '
    'the limit of the queue. Returns text for people; do not parse it.';
