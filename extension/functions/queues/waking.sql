-- Waking workers without choking commits. NOTIFY takes a lock of the whole cluster at commit,
-- so a producer notifies only when a worker waits. Who waits holds a shared advisory lock on
-- its session: no row to update, seen at every isolation level, gone with the session.
--
-- The lock's first key is the OID of eram_queues, so that other software's locks cannot
-- collide; the second is a hash of the queue's name: two queues that share it wake each other's
-- workers in vain.

create or replace function _eram_channel(queue text)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select 'eram_' || md5('eram_queues'::regclass::oid || ':' || queue);
$$;

create or replace function _eram_notify(queue text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    -- eram.notify is for sessions that must not notify: NOTIFY forbids PREPARE TRANSACTION.
    if current_setting('eram.notify', true) = 'off'
        or exists (
            select
            from eram_queues as queues
            where queues.name = queue and not queues.is_notifying
        )
    then
        return;
    end if;

    perform pg_notify(_eram_channel(queue), queue);
end;
$$;

-- Called by whoever puts a ticket into a queue, once it has its transaction id and before it
-- reads the clock: a worker that declares itself waiting afterwards polls until that
-- transaction has ended.
--
-- Nobody waits if the lock can be had exclusively. If it cannot but can be shared, waiting
-- workers hold it, or another producer's probe has just ended: hence the repetition. If it can
-- be had in no way, a probe holds it right now, and so no worker does.
create or replace function _eram_wake(queue text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_probes   constant integer := 3;
    v_class    integer := 'eram_queues'::regclass::oid::integer;
    v_key      integer := hashtext(queue);
    v_is_awake boolean;
begin
    for i in 1..c_probes loop
        -- One expression: nothing can interrupt it between taking the lock and giving it back.
        v_is_awake := case
            when pg_try_advisory_lock(v_class, v_key) then pg_advisory_unlock(v_class, v_key)
            when pg_try_advisory_lock_shared(v_class, v_key)
            then not pg_advisory_unlock_shared(v_class, v_key)
            else true
        end;
        if v_is_awake then
            return;
        end if;
    end loop;

    perform _eram_notify(queue);
end;
$$;

create or replace function _eram_holds_lock(class integer, key integer)
    returns boolean
    language sql
    volatile
    set search_path from current
as $$
    select exists (
        select
        from pg_catalog.pg_locks as locks
        where
            locks.locktype = 'advisory'
            and locks.pid = pg_backend_pid()
            and locks.classid = class::oid
            and locks.objid = key::oid
            and locks.objsubid = 2
            and locks.granted
    );
$$;

-- The second keys of all advisory locks whose first key is the OID of this table, whoever holds
-- them.
create or replace function _eram_held_keys(owner regclass)
    returns bigint[]
    language sql
    volatile
    set search_path from current
as $$
    select array(
        select locks.objid::bigint
        from pg_catalog.pg_locks as locks
        where
            locks.locktype = 'advisory'
            and locks.database = (
                select databases.oid
                from pg_catalog.pg_database as databases
                where databases.datname = current_database()
            )
            and locks.classid = owner::oid
            and locks.objsubid = 2
            and locks.granted
    );
$$;

create or replace function eram_start_waiting(
    queue           text,
    inout mark      xid8 default null,
    out is_settled  boolean,
    out next_due_at timestamptz,
    out is_limited  boolean
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
    v_queue    text    := queue;
    v_class    integer := 'eram_queues'::regclass::oid::integer;
    v_key      integer := hashtext(v_queue);
    v_now_us   bigint;
    v_cursor   bigint[];
    v_sweep_at timestamptz;
    v_limit    integer := _eram_limit(queue);
begin
    perform _eram_check_queue(v_queue);

    -- A pause may hide a limit.
    is_limited := v_limit is not null;

    if mark is null or v_limit = 0 then
        -- Dynamic, because the name of a channel cannot be a parameter.
        execute format('listen %I', _eram_channel(v_queue));
    end if;

    -- To be notified of an enqueue would help nobody, and cost its producer. Whoever resumes a
    -- paused queue notifies all that listen.
    if v_limit = 0 or (case when v_limit > 0 then _eram_slots_left(v_queue) = 0 end) then
        perform eram_stop_waiting(v_queue);
        mark := null;
        is_settled := false;
        return;
    end if;

    if mark is null then
        if not _eram_holds_lock(v_class, v_key) then
            perform pg_advisory_lock_shared(v_class, v_key);
        end if;
        -- Whoever probed before we held the lock has an id below this one.
        mark := pg_current_xact_id();
    end if;

    -- Settled once this session has swept the queue when all of them had ended. A fetch that did
    -- not sweep may have passed over what they committed: then the next sweep is due to be made.
    v_now_us := extract(epoch from clock_timestamp()) * 1000000;
    v_cursor := _eram_read_cursor(_eram_cursor_setting(v_queue), v_now_us);
    is_settled := coalesce(v_cursor[7]::text::xid8 > mark, false);
    if v_cursor[10 + 2 * v_cursor[9]] > v_cursor[3] then
        v_sweep_at := timestamptz 'epoch'
            + (v_cursor[3] + 20 * v_cursor[4]) * interval '1 microsecond';
    end if;

    select least(min(upcoming.scheduled_at), v_sweep_at) into next_due_at
    from generate_series(0, 19) as lanes (lane)
    cross join lateral (
        select queued.scheduled_at
        from eram_queued_jobs as queued
        where
            queued.queue = v_queue
            and queued.lane = lanes.lane::smallint
            and queued.scheduled_at > statement_timestamp()
        order by
            queued.scheduled_at,
            queued.job_id
        limit 1
    ) as upcoming;
end;
$$;

comment on function eram_start_waiting is
    'Declare that this session waits for jobs of a queue: from now on an enqueue notifies it. Go '
    'on fetching at short intervals, and call again with the mark returned before each fetch, '
    'until is_settled: then no job can have been missed that was enqueued by someone who did not '
    'see the declaration. next_due_at is when to fetch again at the latest, because a job is due '
    'or the last fetch did not look everywhere. Where is_limited, fetch again whenever a job of '
    'yours has ended: it may have been what the queue''s global limit allows. While the limit is '
    'reached or the queue is paused nothing is declared, and the mark is null: fetch at longer '
    'intervals; a resume notifies. Call it in autocommit, and not behind a transaction pooler. '
    'What this session enqueues itself does not notify it.';

create or replace function eram_stop_waiting(queue text)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_queue text    := queue;
    v_class integer := 'eram_queues'::regclass::oid::integer;
    v_key   integer := hashtext(v_queue);
begin
    perform _eram_check_queue(v_queue);

    if _eram_holds_lock(v_class, v_key) then
        perform pg_advisory_unlock_shared(v_class, v_key);
    end if;
end;
$$;

comment on function eram_stop_waiting is
    'Declare that this session no longer waits for jobs of a queue. Call it in autocommit. Does '
    'nothing if the session did not wait.';
