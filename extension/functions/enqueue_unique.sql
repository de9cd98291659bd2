-- A batch with unique jobs in it. All keys are taken first, in order of the key, so that two batches
-- never wait for each other. Then what is a duplicate is known, and the rest is enqueued as usual.

create or replace function _eram_insert_unique_jobs(specs eram_job_specs[])
    returns table (id bigint, is_duplicate boolean)
    language plpgsql
    volatile
    set search_path from current
    set jit to off
as $$
#variable_conflict use_column
declare
    v_specs    eram_job_specs[] := specs;
    v_count    integer          := cardinality(specs);
    v_ids      bigint[];
    v_holders  bigint[];
    v_contents integer[];
    v_until    timestamptz[];
    v_key      record;
    v_taken    record;
    v_now      timestamptz;
begin
    perform pg_current_xact_id();

    v_ids := array(
        select nextval('eram_job_specs_job_id_seq')
        from generate_series(1, v_count)
    );
    v_holders := v_ids;
    v_contents := array(select generate_series(1, v_count));
    v_until := array_fill(null::timestamptz, array[v_count]);

    for v_key in
        select
            wanted.unique_key as key,
            array_agg(wanted.ordinality order by wanted.ordinality)::integer[] as numbers,
            max(wanted.ordinality)
                filter (where wanted.unique_by ->> 'on_conflict' = 'replace')::integer as last,
            bool_or(wanted.unique_by ? 'period') as has_period
        from unnest(v_specs) with ordinality as wanted
        where wanted.unique_key is not null
        group by wanted.unique_key
        order by wanted.unique_key
    loop
        v_taken := _eram_take_key(
            v_key.key,
            v_ids[v_key.numbers[1]],
            case when v_key.has_period
                then _eram_unique_period(v_specs[v_key.numbers[1]].unique_by)
            end);
        if v_taken.expires_at is not null then
            v_until[v_key.numbers[1]] := v_taken.expires_at;
        end if;
        if v_key.last is not null then
            v_contents[v_key.numbers[1]] := v_key.last;
        end if;
        if v_taken.holder <> v_ids[v_key.numbers[1]] or cardinality(v_key.numbers) > 1 then
            for i in 1..cardinality(v_key.numbers) loop
                v_holders[v_key.numbers[i]] := v_taken.holder;
            end loop;
        end if;
    end loop;

    -- Those within the batch too: the job that they meet does not wait yet, so that nothing but
    -- "raise" happens to them here.
    perform _eram_meet_duplicates(
        array(
            select v_specs[numbers.number]
            from generate_series(1, v_count) as numbers (number)
            where v_holders[numbers.number] <> v_ids[numbers.number]
            order by numbers.number
        ),
        array(
            select v_holders[numbers.number]
            from generate_series(1, v_count) as numbers (number)
            where v_holders[numbers.number] <> v_ids[numbers.number]
            order by numbers.number
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
            v_ids[wanted.ordinality],
            wanted.handler,
            contents.args,
            contents.meta,
            contents.tags,
            wanted.queue,
            contents.priority,
            contents.max_attempts,
            wanted.backoff,
            wanted.timeout,
            wanted.unique_by,
            wanted.unique_key,
            v_until[wanted.ordinality],
            v_now,
            greatest(contents.scheduled_at, v_now)
        from unnest(v_specs) with ordinality as wanted
        join unnest(v_specs) with ordinality as contents
            on contents.ordinality = v_contents[wanted.ordinality]
        where v_holders[wanted.ordinality] = v_ids[wanted.ordinality]
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
