-- Why a job waits: the part of eram_why() for jobs that no worker has.

-- The due jobs that a claim takes before this one, counted up to most. Each lane is read by itself,
-- because jobs for later may lie between.
create or replace function _eram_count_ahead(job eram_queued_jobs, most integer)
    returns bigint
    language sql
    volatile
    set search_path from current
as $$
    select count(*)
    from (
        select
        from generate_series(0, job.lane) as lanes (lane)
        cross join lateral (
            select
            from eram_queued_jobs as queued
            where
                queued.queue = job.queue
                and queued.lane = lanes.lane::smallint
                and (queued.scheduled_at, queued.job_id)
                    < (
                        case
                            when lanes.lane = job.lane then job.scheduled_at
                            else statement_timestamp()
                        end,
                        case when lanes.lane = job.lane then job.job_id else 0 end)
            order by
                queued.scheduled_at,
                queued.job_id
            limit most
        ) as tickets
        limit most
    ) as ahead;
$$;

-- When it will be due, and why not before; null when it is due.
create or replace function _eram_why_later(job eram_queued_jobs, max_attempts integer)
    returns text
    language sql
    volatile
    set search_path from current
as $$
    select format(
        case
            when errors.error is not null
            then 'It waits for its retry until %s (for %s): attempt %s of %s failed: %s.'
            when job.run > 0 then 'It was put off until %s (for %s).'
            else 'It is scheduled for %s (in %s).'
        end,
        _eram_when(job.scheduled_at),
        _eram_span(job.scheduled_at - clock_timestamp()),
        job.attempt,
        max_attempts,
        errors.error)
    from (
        -- A cancel leaves a reason, which is not a failure.
        select case
            when not exists (
                select
                from eram_job_errors as errors
                where
                    errors.job_id = job.job_id
                    and errors.run = job.run
                    and errors.detail ->> 'type' = 'cancelled'
            )
            then _eram_first_line(job.job_id, job.run)
        end
    ) as errors (error)
    where job.scheduled_at > statement_timestamp();
$$;

-- The workers of a queue that have not ended, and those among them that give no sign of life.
create or replace function _eram_living_workers(
    queue             text,
    out number        bigint,
    out missing       bigint,
    out missing_since timestamptz
)
    language sql
    volatile
    set search_path from current
as $$
    with held as materialized (
        select _eram_held_keys('eram_workers'::regclass) as keys
    )
    select
        count(*),
        count(*) filter (where signs.is_missing),
        min(workers.missing_since)
    from eram_workers as workers
    cross join held
    cross join lateral (
        select workers.is_direct and _eram_worker_key(workers.id) <> all (held.keys)
            or not workers.is_direct
            and workers.heartbeat_at < clock_timestamp() - _eram_longest_silence()
    ) as signs (is_missing)
    where
        workers.ended_at is null
        and queue = any (workers.queues);
$$;

-- Why nobody is there to claim; null when somebody is.
create or replace function _eram_why_no_worker(queue text)
    returns text
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_queue  text   := queue;
    v_living record := _eram_living_workers(v_queue);
    v_last   record;
begin
    if v_living.number > v_living.missing then
        return null;
    elsif v_living.number > 0 then
        return format(
            'The workers of queue "%s" (%s) give no sign of life, since %s.',
            v_queue,
            v_living.number,
            _eram_when(coalesce(v_living.missing_since, clock_timestamp())));
    end if;

    select
        workers.id,
        workers.end_reason,
        workers.ended_at
    into v_last
    from eram_workers as workers
    where
        workers.ended_at is not null
        and v_queue = any (workers.queues)
    order by workers.ended_at desc
    limit 1;

    return format('No worker serves queue "%s": ', v_queue) || case
        when v_last.id is null then 'none is known that ever did.'
        else format(
            'the last one, %s, has %s at %s.',
            _eram_worker_words(v_last.id), v_last.end_reason, _eram_when(v_last.ended_at))
    end;
end;
$$;

-- Who claims for a limited queue has its lock until that is committed.
create or replace function _eram_why_no_room(queue text)
    returns text
    language sql
    volatile
    set search_path from current
as $$
    select case
        when taken.count >= queues.global_limit then format(
            'The global limit of queue "%s" is reached: %s of %s are running.',
            queue,
            case
                when taken.count <= counts.most then taken.count::text
                else format('more than %s', counts.most)
            end,
            queues.global_limit)
        else (
            select format(
                'Queue "%s" has a global limit, and a claim in %s is not committed.',
                queue,
                _eram_session_words(
                    locks.pid,
                    (
                        select transactions.transactionid
                        from pg_catalog.pg_locks as transactions
                        where
                            transactions.locktype = 'transactionid'
                            and transactions.virtualtransaction = locks.virtualtransaction
                            and transactions.pid is null
                            and transactions.granted
                        limit 1
                    )))
            from pg_catalog.pg_locks as locks
            where
                locks.locktype = 'advisory'
                and locks.database = (
                    select databases.oid
                    from pg_catalog.pg_database as databases
                    where databases.datname = current_database()
                )
                and locks.classid = 'eram_queued_jobs'::regclass::oid
                and locks.objid = hashtext(queue)::oid
                and locks.objsubid = 2
                and locks.granted
            limit 1
        )
    end
    from eram_queues as queues
    cross join lateral (select greatest(queues.global_limit, 1000)) as counts (most)
    cross join lateral (
        select count(*)
        from (
            select
            from eram_running_jobs as running
            where running.queue = queues.name
            limit counts.most + 1
        ) as running
    ) as taken
    where
        queues.name = queue
        and queues.global_limit is not null;
$$;

create or replace function _eram_why_in_line(job eram_queued_jobs)
    returns text
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_most    constant integer          := 1000;
    v_job     constant eram_queued_jobs := job;
    v_ahead   bigint                    := _eram_count_ahead(v_job, c_most + 1);
    v_living  record                    := _eram_living_workers(v_job.queue);
    v_workers bigint                    := v_living.number - v_living.missing;
    v_running bigint;
begin
    select count(*) into v_running
    from (
        select
        from eram_running_jobs as running
        where running.queue = v_job.queue
        limit c_most + 1
    ) as running;

    return format(
        'It is due since %s. %s. %s in queue "%s" and %s of its jobs running.',
        _eram_when(v_job.scheduled_at),
        case
            when v_ahead = 0 then 'It is the next to be claimed, once a worker has room'
            when v_ahead = 1 then '1 job is ahead of it'
            when v_ahead > c_most then format('More than %s jobs are ahead of it', c_most)
            else format('%s jobs are ahead of it', v_ahead)
        end,
        case
            when v_workers = 1 then 'There is 1 worker'
            else format('There are %s workers', v_workers)
        end,
        v_job.queue,
        case
            when v_running = 0 then 'none'
            when v_running > c_most then format('more than %s', c_most)
            else v_running::text
        end);
end;
$$;

create or replace function _eram_why_waiting(
    job          eram_queued_jobs,
    max_attempts integer,
    held_by      text
)
    returns text
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_job   eram_queued_jobs := job;
    v_later text             := _eram_why_later(v_job, max_attempts);
    v_why   text;
begin
    if held_by is not null then
        return format(
            'It is on its way: %s has its ticket, as a claim has until it is committed.',
            held_by);
    end if;

    v_why := concat_ws(
        ' ',
        v_later,
        (
            select format('Queue "%s" is paused.', queues.name)
            from eram_queues as queues
            where queues.name = v_job.queue and queues.is_paused
        ),
        case when v_later is null then _eram_why_no_room(v_job.queue) end,
        _eram_why_no_worker(v_job.queue));

    return coalesce(nullif(v_why, ''), _eram_why_in_line(v_job));
end;
$$;
