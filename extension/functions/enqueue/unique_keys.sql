-- Unique keys: taken when a job is enqueued, given up when it ends. A key is in force until it is
-- deleted or has expired, so nothing depends on what was pruned. Several are taken in order of the
-- key; on conflict do nothing waits for a rival that is not committed yet, is right whether it
-- commits or rolls back, and locks nothing of a rival that was there before.

-- Who has a key that could not simply be inserted: another, if it is in force for that one, else
-- the job itself, after all. It is also for a job that got its key after a wait: its window begins
-- when the wait is over.
create or replace function _eram_settle_key(
    key            bytea,
    id             bigint,
    period         interval,
    out holder     bigint,
    out expires_at timestamptz
)
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
as $$
declare
    c_tries constant integer := 1000;
    v_key   bytea            := key;
    v_now   timestamptz;
begin
    for i in 1..c_tries loop
        -- First its own, for an old snapshot may show a key beside it that was given up since.
        update eram_unique_keys as unique_keys
        set expires_at = clock_timestamp() + period
        where
            unique_keys.key = v_key
            and unique_keys.job_id = id
        returning
            unique_keys.job_id,
            unique_keys.expires_at
        into holder, expires_at;

        if found then
            return;
        end if;

        select
            unique_keys.job_id,
            unique_keys.expires_at
        into holder, expires_at
        from eram_unique_keys as unique_keys
        where unique_keys.key = v_key;

        if not found then
            -- Given up in the meantime.
            insert into eram_unique_keys (key, job_id)
            values (v_key, id)
            on conflict do nothing;
            continue;
        end if;

        v_now := clock_timestamp();
        if expires_at is null or expires_at > v_now then
            return;
        end if;

        -- This may wait for another who takes the key over. If he does, his row must not stay
        -- locked by us, for that would hold up the end of his job: hence the block.
        begin
            perform
            from eram_unique_keys as unique_keys
            where
                unique_keys.key = v_key
                and unique_keys.expires_at <= v_now
            for update;

            if not found then
                raise exception using
                    errcode = 'no_data_found',
                    message = 'another was quicker',
                    hint = 'This is dealt with below.';
            end if;
        exception
            when no_data_found then
                continue;
        end;

        holder := id;
        expires_at := clock_timestamp() + period;
        update eram_unique_keys as unique_keys
        set
            job_id = holder,
            expires_at = _eram_settle_key.expires_at
        where
            unique_keys.key = v_key
            and unique_keys.expires_at <= v_now;
        return;
    end loop;

    raise exception using
        errcode = 'serialization_failure',
        message = format('the unique key of job %s could not be taken', id),
        hint = 'Others take it and give it up all the time. Try again.';
end;
$$;

-- What becomes of jobs whose key is another's: the one with specs[i] meets the job ids[i]. Of
-- several that meet the same job, the last counts.
create or replace function _eram_meet_duplicates(specs eram_job_specs[], ids bigint[])
    returns void
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
as $$
declare
    v_specs   eram_job_specs[]   := specs;
    v_ids     bigint[]           := ids;
    v_target  record;
    v_numbers integer[]          := '{}';
    v_tickets eram_queued_jobs[] := '{}';
    v_ticket  eram_queued_jobs;
    v_spec    eram_job_specs;
    v_now     timestamptz;
begin
    for v_number in 1..cardinality(v_specs) loop
        if v_specs[v_number].unique_by ->> 'on_conflict' = 'raise' then
            raise exception using
                errcode = 'unique_violation',
                message = format(
                    'a job of handler "%s" with the same unique key exists',
                    v_specs[v_number].handler),
                detail = format('It is job %s.', v_ids[v_number]),
                hint = 'Leave on_conflict out to be given its id instead.';
        end if;
    end loop;

    -- What does not wait any more stays as it is. Who waited for a rival that gave the job a new
    -- ticket looks again.
    for v_target in
        select
            met.id,
            max(met.ordinality) as number
        from unnest(v_ids, v_specs) with ordinality as met (id)
        where met.unique_by ->> 'on_conflict' = 'replace'
        group by met.id
        order by met.id
    loop
        loop
            delete from eram_queued_jobs as queued
            where queued.job_id = v_target.id
            returning * into v_ticket;

            exit when found
                or not exists (
                    select
                    from eram_queued_jobs as queued
                    where queued.job_id = v_target.id
                );
        end loop;

        if v_ticket.job_id is not null then
            v_numbers := v_numbers || v_target.number::integer;
            v_tickets := v_tickets || v_ticket;
            perform _eram_wake(v_ticket.queue);
        end if;
    end loop;

    v_now := clock_timestamp();
    for v_number in 1..cardinality(v_tickets) loop
        v_ticket := v_tickets[v_number];
        v_spec := v_specs[v_numbers[v_number]];
        v_spec.scheduled_at := greatest(v_spec.scheduled_at, v_now);

        update eram_job_specs as stored
        set
            args = v_spec.args,
            meta = v_spec.meta,
            tags = v_spec.tags,
            priority = v_spec.priority,
            max_attempts = greatest(v_spec.max_attempts, v_ticket.attempt + 1),
            scheduled_at = v_spec.scheduled_at
        where stored.job_id = v_ticket.job_id;

        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
        values (
            v_ticket.job_id, v_spec.scheduled_at, v_ticket.run, v_ticket.attempt,
            2 * v_spec.priority + 1, v_ticket.queue, v_ticket.unique_key);
    end loop;
end;
$$;

-- Of jobs that ended, ids[i] with keys[i]. A window outlives the completion of its job.
create or replace function _eram_release_keys(
    keys         bytea[],
    ids          bigint[],
    with_windows boolean default true
)
    returns void
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
as $$
declare
    v_key record;
begin
    for v_key in
        select
            given_up.key,
            given_up.job_id
        from unnest(keys, ids) as given_up (key, job_id)
        where given_up.key is not null
        order by given_up.key
    loop
        delete from eram_unique_keys as unique_keys
        where
            unique_keys.key = v_key.key
            and unique_keys.job_id = v_key.job_id
            and unique_keys.expires_at is null;

        if with_windows and not found then
            -- One that is locked is being taken over, because its window is over.
            delete from eram_unique_keys as unique_keys
            where unique_keys.key = (
                select mine.key
                from eram_unique_keys as mine
                where mine.key = v_key.key and mine.job_id = v_key.job_id
                for update skip locked
            );
        end if;
    end loop;
end;
$$;
