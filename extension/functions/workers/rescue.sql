-- Rescue by proof of death. Whether a worker's lock is held is read from pg_locks, never tried:
-- a try would take the lock from a worker that is just taking it back. Any number of callers
-- may run this at once: each works on what no other holds.

-- How long any worker may be silent before it needs the lock of its session to be taken for alive.
create or replace function _eram_longest_silence()
    returns interval
    language sql
    immutable
    set search_path from current
as $$
    select interval '60 seconds';
$$;

-- How long a lock may be absent. Longer when many sessions may have been lost at once and are
-- on their way back: the server has just started or was promoted, or the locks of half of the
-- workers vanished together. Those that are back already count among the lost.
create or replace function _eram_grace(worker eram_workers)
    returns interval
    language sql
    stable
    set search_path from current
as $$
    select case
        when worker.timeline <> _eram_timeline()
            or worker.missing_since < pg_postmaster_start_time() + interval '30 seconds'
            or (
                select count(*) filter (where together.is_true) >= 3
                    and 2 * count(*) filter (where together.is_true) >= count(*)
                from eram_workers as workers
                cross join lateral (
                    -- One call may see the first of them gone, and the next call the rest.
                    select workers.last_missing_at
                        between worker.last_missing_at - interval '1 second'
                        and worker.last_missing_at + interval '1 second'
                ) as together (is_true)
                where workers.ended_at is null and workers.is_direct
            )
        then interval '30 seconds'
        else interval '3 seconds'
    end;
$$;

-- Notes which locks are absent, and declares dead who has been missing or silent for too long.
create or replace function _eram_end_dead_workers(held_keys bigint[])
    returns bigint
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_now          timestamptz := clock_timestamp();
    v_timeline     text        := _eram_timeline();
    v_worker       eram_workers;
    v_is_missing   boolean;
    v_last_sign_at timestamptz;
    v_reason       text;
    v_ended_count  bigint      := 0;
begin
    for v_worker in
        select workers.*
        from eram_workers as workers
        where
            workers.ended_at is null
            and (
                workers.missing_since is not null
                or workers.is_direct and _eram_worker_key(workers.id) <> all (held_keys)
                or workers.timeline <> v_timeline
                or workers.heartbeat_at < v_now - _eram_longest_silence()
            )
        order by workers.id
        for update skip locked
    loop
        v_is_missing := v_worker.is_direct and _eram_worker_key(v_worker.id) <> all (held_keys);

        -- Noted when first seen; a failover is noted as well, because it explains a silence.
        if v_worker.missing_since is null and (v_is_missing or v_worker.timeline <> v_timeline) then
            update eram_workers as workers
            set
                missing_since = v_now,
                last_missing_at = v_now
            where workers.id = v_worker.id;
            continue;
        end if;

        v_last_sign_at := greatest(
            v_worker.heartbeat_at,
            v_worker.missing_since,
            pg_postmaster_start_time());
        v_reason := case
            when v_is_missing then
                case when v_now - v_worker.missing_since > _eram_grace(v_worker) then 'died' end
            when v_worker.is_direct or v_now - v_last_sign_at <= _eram_longest_silence() then null
            else 'died'
        end;
        if v_reason is null
            and v_worker.stalled_after > interval '0'
            and v_now - v_last_sign_at > v_worker.stalled_after
        then
            v_reason := 'stalled';
        end if;

        if v_reason is not null then
            -- Not while a claim of this worker is under way: its jobs would be overlooked.
            if pg_try_advisory_xact_lock(
                'eram_running_jobs'::regclass::oid::integer,
                _eram_worker_key(v_worker.id))
            then
                update eram_workers as workers
                set
                    ended_at = v_now,
                    end_reason = v_reason
                where workers.id = v_worker.id;
                delete from eram_cancelled_runs as cancelled
                where cancelled.worker = v_worker.id;
                v_ended_count := v_ended_count + 1;
            end if;
        elsif v_worker.is_direct
            and not v_is_missing
            and v_worker.timeline = v_timeline
            and v_worker.missing_since is not null
        then
            update eram_workers as workers
            set missing_since = null
            where workers.id = v_worker.id;
        end if;
    end loop;

    return v_ended_count;
end;
$$;

-- Looking through all running jobs is dear while an old snapshot keeps dead rows. A session
-- does it at most every ten seconds, and for at most a hundredth of its time; but when it has just
-- ended a worker or found a job, again at its next call.
create or replace function _eram_sweep_is_due()
    returns boolean
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_swept text   := current_setting('eram.rescue_swept', true);
    v_now   bigint := extract(epoch from clock_timestamp()) * 1000;
    v_last  bigint[];
begin
    if v_swept is null or v_swept !~ '^[{][0-9]{1,15},[0-9]{1,9}[}]$' then
        return true;
    end if;
    v_last := v_swept::bigint[];
    return v_last[1] > v_now or v_now - v_last[1] > greatest(10000, 100 * v_last[2]);
end;
$$;

create or replace function eram_rescue_jobs(rescue_after interval default null)
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
    c_batch        constant integer := 10000;
    v_rescue_after interval         := rescue_after;
    v_start        timestamptz      := clock_timestamp();
    v_held         bigint[];
    v_ended_count  bigint;
    v_ids          bigint[];
    v_exhausted    bigint[];
begin
    if v_rescue_after is not null then
        perform _eram_check_delay('rescue_after', v_rescue_after);
    end if;

    v_held := _eram_held_keys('eram_workers'::regclass);
    v_ended_count := _eram_end_dead_workers(v_held);
    if v_ended_count = 0 and v_rescue_after is null and not _eram_sweep_is_due() then
        return 0;
    end if;

    -- Locked in order of id, before the clock is read for the tickets. What is locked by another is
    -- being finished or rescued by it.
    v_ids := array(
        select running.job_id
        from eram_running_jobs as running
        left join eram_workers as workers
            on workers.id = running.worker and workers.ended_at is null
        where
            workers.id is null
            -- Neither lock nor heartbeat says that the worker lives, nor could it be declared dead.
            or v_rescue_after is not null
            and workers.heartbeat_at < v_start - _eram_longest_silence()
            and not (workers.is_direct and _eram_worker_key(workers.id) = any (v_held))
            and running.attempted_at < v_start - coalesce(
                (
                    select queues.rescue_after
                    from eram_queues as queues
                    where queues.name = running.queue
                ),
                v_rescue_after)
        order by running.job_id
        limit c_batch
        for update of running skip locked
    );

    insert into eram_job_errors (job_id, run, attempt, worker, errored_at, error, detail)
    select
        running.job_id,
        running.run,
        running.attempt,
        running.worker,
        clock_timestamp(),
        format(
            'worker %s (%s) %s while it held this job',
            running.worker,
            coalesce('"' || workers.name || '"', 'unknown'),
            coalesce(workers.end_reason, 'did not prove its life')),
        '{"type": "rescued"}'
    from eram_running_jobs as running
    left join eram_workers as workers on workers.id = running.worker
    where running.job_id = any (v_ids);

    -- A job that kills its worker must not do so for ever: a rescue uses up the attempt.
    v_exhausted := array(
        select running.job_id
        from eram_running_jobs as running
        join eram_job_specs as specs on specs.job_id = running.job_id
        where running.job_id = any (v_ids) and running.attempt >= specs.max_attempts
    );

    perform _eram_release_keys(
        array_agg(running.unique_key),
        array_agg(running.job_id))
    from eram_running_jobs as running
    where running.job_id = any (v_exhausted) and running.unique_key is not null;

    with gone as (
        delete from eram_running_jobs as running
        where running.job_id = any (v_exhausted)
        returning running.*
    )
    insert into eram_finished_jobs
        (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue)
    select
        gone.job_id,
        gone.worker,
        gone.attempted_at,
        clock_timestamp(),
        gone.run,
        gone.attempt,
        'discarded',
        gone.queue
    from gone;

    perform _eram_announce(finished.queue, array_agg(finished.job_id), 'discarded')
    from eram_finished_jobs as finished
    where finished.job_id = any (v_exhausted)
    group by finished.queue;

    perform _eram_return_jobs(
        array(
            select ids.job_id
            from unnest(v_ids) as ids (job_id)
            where ids.job_id <> all (v_exhausted)
        ),
        1);

    -- A batch may have been full, or a job locked by what was then rolled back: what has found
    -- something is not over before the next call finds nothing.
    perform set_config(
        'eram.rescue_swept',
        case
            when v_ended_count > 0 or cardinality(v_ids) > 0 then ''
            else array[
                (extract(epoch from v_start) * 1000)::bigint,
                (extract(epoch from clock_timestamp() - v_start) * 1000)::bigint
            ]::text
        end,
        false);
    return cardinality(v_ids);
end;
$$;

comment on function eram_rescue_jobs is
    'Give the jobs of dead and stalled workers back to their queues, or discard those whose '
    'attempts are used up; every tick does it. With rescue_after (a queue''s own goes first), '
    'also jobs that have been running for longer and whose worker gives no sign of life: it has '
    'no lock, and its last heartbeat is a minute old. Returns how many jobs were rescued.';
