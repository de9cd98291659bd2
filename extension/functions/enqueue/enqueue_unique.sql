-- A batch with unique jobs in it. All keys are taken first, in order of the key, so that two
-- batches never wait for each other. Then what is a duplicate is known, and the rest is enqueued as
-- usual.

create or replace function _eram_insert_unique_jobs(specs eram_job_specs[])
    returns table (id bigint, is_duplicate boolean)
    language plpgsql
    volatile
    set search_path from current
    set jit to off
as $$
#variable_conflict use_column
declare
    c_wait      constant interval := interval '1 millisecond';
    v_specs     eram_job_specs[]  := specs;
    v_count     integer           := cardinality(specs);
    v_ids       bigint[];
    v_holders   bigint[];
    v_until     timestamptz[];
    v_key       record;
    v_period    interval;
    v_id        bigint;
    v_settled   record;
    v_number    integer;
    v_spec      eram_job_specs;
    v_latest    eram_job_specs;
    v_now       timestamptz;
begin
    perform pg_current_xact_id();

    v_ids := array(
        select nextval('eram_job_specs_job_id_seq')
        from generate_series(1, v_count)
    );
    v_holders := v_ids;
    v_until := array_fill(null::timestamptz, array[v_count]);

    for v_key in
        select
            wanted.unique_key as key,
            min(wanted.ordinality)::integer as first,
            array_agg(wanted.ordinality::integer) as numbers,
            max(wanted.ordinality)
                filter (where wanted.unique_by ->> 'on_conflict' = 'replace')::integer as last,
            bool_or(wanted.unique_by ? 'period') as has_period
        from unnest(v_specs) with ordinality as wanted
        where wanted.unique_key is not null
        group by wanted.unique_key
        order by wanted.unique_key
    loop
        if v_key.has_period then
            v_period := _eram_unique_period(v_specs[v_key.first].unique_by);
        else
            v_period := null;
        end if;
        v_id := v_ids[v_key.first];
        v_now := clock_timestamp();

        insert into eram_unique_keys (key, job_id, expires_at)
        values (v_key.key, v_id, v_now + v_period)
        on conflict do nothing;

        if not found or v_period is not null and clock_timestamp() - v_now > c_wait then
            v_settled := _eram_settle_key(v_key.key, v_id, v_period);
            v_holders[v_key.first] := v_settled.holder;
            v_until[v_key.first] := v_settled.expires_at;
        elsif v_period is not null then
            v_until[v_key.first] := v_now + v_period;
        end if;

        if v_key.last > v_key.first then
            v_spec := v_specs[v_key.first];
            v_latest := v_specs[v_key.last];
            v_spec.args := v_latest.args;
            v_spec.meta := v_latest.meta;
            v_spec.tags := v_latest.tags;
            v_spec.priority := v_latest.priority;
            v_spec.max_attempts := v_latest.max_attempts;
            v_spec.scheduled_at := v_latest.scheduled_at;
            v_specs[v_key.first] := v_spec;
        end if;
        if cardinality(v_key.numbers) > 1 then
            foreach v_number in array v_key.numbers loop
                v_holders[v_number] := v_holders[v_key.first];
            end loop;
        end if;
    end loop;

    -- Those within the batch too: the job that they meet does not wait yet, so that nothing but
    -- "raise" happens to them here.
    perform _eram_meet_duplicates(
        array(
            select numbered.spec
            from (
                select
                    spec,
                    row_number() over () as number
                from unnest(v_specs) as spec
            ) as numbered
            where v_holders[numbered.number] <> v_ids[numbered.number]
            order by numbered.number
        ),
        array(
            select holders.id
            from unnest(v_holders) with ordinality as holders (id, number)
            where holders.id <> v_ids[holders.number]
            order by holders.number
        ));

    perform _eram_wake(queues.name)
    from (select distinct wanted.queue from unnest(v_specs) as wanted) as queues (name);

    v_now := clock_timestamp();

    with inserted as (
        insert into eram_job_specs (
            job_id, handler, args, meta, tags, queue, priority, max_attempts, backoff, timeout,
            unique_by, unique_key, unique_until, inserted_at, scheduled_at)
        overriding system value
        select
            wanted.id,
            wanted.handler,
            wanted.args,
            wanted.meta,
            wanted.tags,
            wanted.queue,
            wanted.priority,
            wanted.max_attempts,
            wanted.backoff,
            wanted.timeout,
            wanted.unique_by,
            wanted.unique_key,
            wanted.until,
            v_now,
            greatest(wanted.scheduled_at, v_now)
        from unnest(v_ids, v_holders, v_until, v_specs)
            with ordinality as wanted (id, holder, until)
        where wanted.holder = wanted.id
        order by wanted.ordinality
        returning job_id, queue, priority, scheduled_at, unique_key
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    select
        inserted.job_id,
        inserted.scheduled_at,
        0,
        0,
        2 * inserted.priority + 1,
        inserted.queue,
        inserted.unique_key
    from inserted;

    return query
    select
        holders.id,
        holders.id <> v_ids[holders.ordinality]
    from unnest(v_holders) with ordinality as holders (id, ordinality)
    order by holders.ordinality;
end;
$$;
