-- The global limit of a queue: never more of its jobs executing than that, over all workers.
--
-- Whoever claims from such a queue holds its lock until the claim is committed or rolled back,
-- and counts once it has it, under a snapshot taken after that. So all earlier claims are counted,
-- and no other is under way. The lock's first key is the OID of eram_queued_jobs, the second a
-- hash of the queue's name: two queues that share it claim in turn.
--
-- Nobody waits in line for that lock, because a claim may be left open for minutes, and because a
-- line could end in a deadlock: it is tried for a moment, and then there is no room. Nor is there
-- an index to count by: each claim of every queue would pay for it.

-- Zero when claiming is suspended, null when there is no limit. For most queues this one look is
-- all that a claim pays.
create or replace function _eram_limit(queue text)
    returns integer
    language plpgsql
    stable
    set search_path from current
as $$
begin
    return (
        select case when not queues.is_paused then queues.global_limit else 0 end
        from eram_queues as queues
        where queues.name = queue
    );
end;
$$;

-- Volatile, so that it reads what was committed up to its own start. All running jobs are read
-- until there are as many as the limit: an index that was made for other questions would be slower.
create or replace function _eram_slots_left(queue text)
    returns integer
    language plpgsql
    volatile
    set search_path from current
    set enable_seqscan to on
    set max_parallel_workers_per_gather to 0
as $$
declare
    v_queue text := queue;
    v_left  integer;
begin
    select
        case
            when not queues.is_paused then greatest(queues.global_limit - taken.slots, 0)
            else 0
        end
    into v_left
    from eram_queues as queues
    cross join lateral (
        select count(*)::integer as slots
        from (
            select
            from eram_running_jobs as running
            where running.queue = v_queue
            limit queues.global_limit
        ) as running
    ) as taken
    where queues.name = v_queue;

    return v_left;
end;
$$;

-- How many jobs the caller may claim of a queue that has a limit; null when it has none any more.
-- From here to the end of its transaction no other can.
create or replace function _eram_take_room(queue text)
    returns integer
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_first_pause   constant double precision := 0.001;
    c_longest_pause constant double precision := 0.032;
    v_class         integer                   := 'eram_queued_jobs'::regclass::oid::integer;
    v_key           integer                   := hashtext(queue);
    v_pause         double precision          := c_first_pause;
begin
    -- There the snapshot is older than the lock, and claims committed between are not counted.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = 'invalid_transaction_state',
            message = format(
                'the global limit of queue "%s" cannot be kept at isolation level "%s"',
                queue, current_setting('transaction_isolation')),
            hint = 'Claim in a transaction at read committed.';
    end if;

    while not pg_try_advisory_xact_lock(v_class, v_key) loop
        if v_pause > c_longest_pause or _eram_slots_left(queue) = 0 then
            return 0;
        end if;
        perform pg_sleep(v_pause);
        v_pause := 2 * v_pause;
    end loop;

    return _eram_slots_left(queue);
end;
$$;

create or replace function _eram_check_global_limit(global_limit integer)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if global_limit < 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('global_limit must be at least 0, got %s', global_limit),
            hint = 'Pass how many jobs of the queue may run at a time; 0 takes the limit away.';
    end if;
end;
$$;
