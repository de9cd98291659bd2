-- Workers come, prove that they live, and go. A direct worker's proof is an advisory lock of
-- its session; the first key is the OID of eram_workers, the second the worker's id. A second
-- lock, on eram_running_jobs, is shared by its claims for their transaction: who declares the
-- worker dead takes it first, so that no claim can commit for a dead worker.

create or replace function _eram_worker_key(worker bigint)
    returns integer
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    return (worker % 2147483647)::integer;
end;
$$;

create or replace function _eram_timeline()
    returns text
    language sql
    stable
    set search_path from current
as $$
    -- Null on a standby, where whoever asks fails at what it writes, and says so.
    select left(
        pg_walfile_name(case when not pg_is_in_recovery() then pg_current_wal_lsn() end),
        8);
$$;

-- A quarter of a minute between writes of heartbeat_at, however often a worker beats.
create or replace function _eram_heartbeat_gap()
    returns interval
    language sql
    immutable
    set search_path from current
as $$
    select interval '15 seconds';
$$;

create or replace function _eram_check_worker(worker bigint)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_worker record;
begin
    -- The lock comes first: after it, what is read of the worker stays true until this
    -- transaction ends.
    perform pg_advisory_xact_lock_shared(
        'eram_running_jobs'::regclass::oid::integer,
        _eram_worker_key(worker));

    select
        workers.ended_at,
        workers.end_reason
    into v_worker
    from eram_workers as workers
    where workers.id = worker;

    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('worker %s does not exist', coalesce(worker::text, 'null')),
            hint = 'Register with eram_start_worker() and pass the id that it returns.';
    elsif v_worker.ended_at is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('worker %s has %s', worker, v_worker.end_reason),
            hint = 'Register anew with eram_start_worker().';
    end if;
end;
$$;

create or replace function _eram_take_worker_lock(worker bigint)
    returns boolean
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_class integer := 'eram_workers'::regclass::oid::integer;
    v_key   integer := _eram_worker_key(worker);
begin
    return _eram_holds_lock(v_class, v_key) or pg_try_advisory_lock(v_class, v_key);
end;
$$;

create or replace function eram_start_worker(
    name          text,
    queues        text[],
    client_pid    integer  default null,
    stalled_after interval default null
)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_queues        text[]   := queues;
    v_stalled_after interval := coalesce(stalled_after, interval '10 minutes');
    v_is_direct     boolean  := coalesce(client_pid = pg_backend_pid(), false);
    v_queue         text;
    v_id            bigint;
begin
    perform _eram_check_name('worker', name, 255);
    perform _eram_check_delay('stalled_after', v_stalled_after);
    if v_queues is null or cardinality(v_queues) = 0 or array_ndims(v_queues) > 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'queues must be a list of at least one queue',
            hint = 'Pass the queues that the worker serves, such as ''{default}''.';
    end if;
    foreach v_queue in array v_queues loop
        perform _eram_check_queue(v_queue);
    end loop;

    insert into eram_workers
        (name, queues, client_pid, is_direct, timeline, stalled_after, started_at, heartbeat_at)
    values (
        name, v_queues, client_pid, v_is_direct, _eram_timeline(), v_stalled_after,
        clock_timestamp(), clock_timestamp())
    returning id into v_id;

    if v_is_direct then
        perform _eram_take_worker_lock(v_id);

        -- A client whose host vanished without a word is noticed within about 15 seconds.
        perform
            set_config('tcp_keepalives_idle', '5', false),
            set_config('tcp_keepalives_interval', '3', false),
            set_config('tcp_keepalives_count', '3', false),
            set_config('tcp_user_timeout', '15000', false);
    end if;

    return v_id;
end;
$$;

comment on function eram_start_worker is
    'Register a worker on the session that shall prove its life. client_pid is the backend '
    'process as the client sees it: when it is another one than the server''s, or null, there '
    'is a pooler between, and heartbeats prove the worker''s life instead. stalled_after '
    '(default 10 minutes, 0 never, else a minute at least) is how long it may be silent. Returns '
    'the worker''s id.';

create or replace function eram_heartbeat(
    worker             bigint,
    out is_alive       boolean,
    out cancelled_ids  bigint[],
    out cancelled_runs integer[]
)
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
    v_worker eram_workers;
    v_now    timestamptz := clock_timestamp();
begin
    select workers.* into v_worker
    from eram_workers as workers
    where workers.id = worker;

    is_alive := v_worker.id is not null and v_worker.ended_at is null;
    cancelled_ids := '{}';
    cancelled_runs := '{}';
    if not is_alive then
        return;
    end if;

    -- A lock that was found absent is taken back before the row says so.
    if v_worker.is_direct and not _eram_take_worker_lock(worker) then
        -- An earlier session of this worker has not been seen to end yet: its lock proves life
        -- as well.
        null;
    end if;

    if v_worker.missing_since is not null
        or v_worker.heartbeat_at < v_now - _eram_heartbeat_gap()
        or v_worker.timeline <> _eram_timeline()
    then
        -- A rescue may be ending the worker at this moment: then it has ended.
        update eram_workers as workers
        set
            heartbeat_at = v_now,
            missing_since = null,
            timeline = _eram_timeline()
        where
            workers.id = worker
            and workers.ended_at is null;

        is_alive := found;
    end if;

    with told as (
        delete from eram_cancelled_runs as cancelled
        where cancelled.worker = v_worker.id
        returning cancelled.job_id, cancelled.run
    )
    select
        coalesce(array_agg(told.job_id order by told.job_id, told.run), '{}'),
        coalesce(array_agg(told.run order by told.job_id, told.run), '{}')
    into cancelled_ids, cancelled_runs
    from told;
end;
$$;

comment on function eram_heartbeat is
    'Say that a worker lives, and take its lock back if it was lost; call it at least every 15 '
    'seconds. is_alive is false when the worker was declared dead or never was: register anew. '
    'cancelled_ids are the jobs it ran that were cancelled since the last call, cancelled_runs '
    'which run of each: the worker may run it again by now, because it was retried.';

create or replace function eram_stop_worker(worker bigint)
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
    v_worker   bigint  := worker;
    v_class    integer := 'eram_workers'::regclass::oid::integer;
    v_key      integer := _eram_worker_key(worker);
    v_released bigint;
begin
    if not exists (select from eram_workers as workers where workers.id = v_worker) then
        raise exception using
            errcode = 'undefined_object',
            message = format('worker %s does not exist', coalesce(v_worker::text, 'null')),
            hint = 'Pass the id that eram_start_worker() returned.';
    end if;

    -- Claims of this worker that are under way end first, later ones are refused.
    perform pg_advisory_xact_lock('eram_running_jobs'::regclass::oid::integer, v_key);

    select count(*) into v_released
    from _eram_return_jobs(
        array(
            select running.job_id
            from eram_running_jobs as running
            where running.worker = v_worker
            order by running.job_id
            for update
        ),
        0);

    update eram_workers as workers
    set
        ended_at = clock_timestamp(),
        end_reason = 'stopped',
        missing_since = null
    where
        workers.id = v_worker
        and workers.ended_at is null;

    delete from eram_cancelled_runs as cancelled
    where cancelled.worker = v_worker;

    if _eram_holds_lock(v_class, v_key) then
        perform pg_advisory_unlock(v_class, v_key);
    end if;

    return v_released;
end;
$$;

comment on function eram_stop_worker is
    'Say goodbye: what the worker still holds is released, and its lock is given back. Returns '
    'how many jobs were released.';
