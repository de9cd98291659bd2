-- Storing new jobs. The order is what claiming rests on (docs/architecture.md): the transaction
-- has its id first, then does all its waiting, and reads the clock last. So nothing enters a
-- lane in the past.

create or replace function _eram_insert_jobs(specs eram_job_specs[], queues text[])
    returns setof bigint
    language plpgsql
    volatile
    set search_path from current
    set jit to off
as $$
declare
    v_specs  eram_job_specs[] := specs;
    v_queues text[]           := queues;
    v_now    timestamptz;
begin
    perform pg_current_xact_id();

    perform _eram_wake(queues.name)
    from unnest(v_queues) as queues (name);

    v_now := clock_timestamp();

    return query
    with specs as (
        insert into eram_job_specs (
            handler, args, meta, tags, queue, priority, max_attempts, backoff, timeout,
            inserted_at, scheduled_at)
        select
            wanted.handler,
            wanted.args,
            wanted.meta,
            wanted.tags,
            wanted.queue,
            wanted.priority,
            wanted.max_attempts,
            wanted.backoff,
            wanted.timeout,
            v_now,
            greatest(wanted.scheduled_at, v_now)
        from unnest(v_specs) with ordinality as wanted
        order by wanted.ordinality
        returning job_id, queue, priority, scheduled_at
    ),
    tickets as (
        insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
        select
            specs.job_id,
            specs.scheduled_at,
            0,
            0,
            2 * specs.priority + 1,
            specs.queue
        from specs
    )
    select specs.job_id
    from specs
    order by specs.job_id;
end;
$$;

-- The same for one job, which needs no arrays and no sort. Another job than the new one comes back
-- when it has the unique key already.
create or replace function _eram_insert_job(
    spec             eram_job_specs,
    out id           bigint,
    out is_duplicate boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_wait  constant interval := interval '1 millisecond';
    c_class constant integer  := 'eram_queues'::regclass::oid::integer;
    v_key            integer  := hashtext(spec.queue);
    v_period         interval;
    v_settled        record;
    v_now            timestamptz;
begin
    id := case
        when pg_current_xact_id() is not null then nextval('eram_job_specs_job_id_seq')
    end;
    is_duplicate := false;
    if spec.unique_key is not null then
        v_now := clock_timestamp();
        v_period := _eram_unique_period(spec.unique_by);
        spec.unique_until := v_now + v_period;

        insert into eram_unique_keys (key, job_id, expires_at)
        values (spec.unique_key, id, spec.unique_until)
        on conflict do nothing;

        if not found or v_period is not null and clock_timestamp() - v_now > c_wait then
            v_settled := _eram_settle_key(spec.unique_key, id, v_period);
            if v_settled.holder <> id then
                id := v_settled.holder;
                is_duplicate := true;
                perform _eram_meet_duplicates(array[spec], array[id]);
                return;
            end if;
            spec.unique_until := v_settled.expires_at;
        end if;
    end if;

    -- Whoever can have the lock need not wake anyone: the first line of _eram_wake().
    v_now := case
        when pg_try_advisory_lock(c_class, v_key)
        then case when pg_advisory_unlock(c_class, v_key) then clock_timestamp() end
    end;
    if v_now is null then
        perform _eram_wake(spec.queue);
        v_now := clock_timestamp();
    end if;

    insert into eram_job_specs (
        job_id, handler, args, meta, tags, queue, priority, max_attempts, backoff, timeout,
        unique_by, unique_key, unique_until, inserted_at, scheduled_at)
    overriding system value
    values (
        id, spec.handler, spec.args, spec.meta, spec.tags,
        spec.queue, spec.priority, spec.max_attempts, spec.backoff, spec.timeout,
        spec.unique_by, spec.unique_key, spec.unique_until,
        v_now, greatest(spec.scheduled_at, v_now));

    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    values (
        id, greatest(spec.scheduled_at, v_now),
        0, 0, 2 * spec.priority + 1, spec.queue, spec.unique_key);
end;
$$;
