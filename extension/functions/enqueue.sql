-- For producers. The order is what claiming rests on (docs/architecture.md): the transaction
-- has its id first, then does all its waiting, and reads the clock last. So nothing enters a
-- lane in the past.

create or replace function _eram_insert_jobs(specs eram_job_specs[])
    returns setof bigint
    language plpgsql
    volatile
    set search_path from current
    set jit to off
as $$
declare
    v_specs eram_job_specs[] := specs;
    v_now   timestamptz;
begin
    perform pg_current_xact_id();

    perform _eram_wake(queues.name)
    from (select distinct queue from unnest(v_specs)) as queues (name);

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
    v_period         interval;
    v_settled        record;
    v_now            timestamptz;
    v_scheduled_at   timestamptz;
begin
    perform pg_current_xact_id();

    id := nextval('eram_job_specs_job_id_seq');
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

    perform _eram_wake(spec.queue);

    v_now := clock_timestamp();
    v_scheduled_at := greatest(spec.scheduled_at, v_now);

    insert into eram_job_specs (
        job_id, handler, args, meta, tags, queue, priority, max_attempts, backoff, timeout,
        unique_by, unique_key, unique_until, inserted_at, scheduled_at)
    overriding system value
    values (
        id, spec.handler, spec.args, spec.meta, spec.tags,
        spec.queue, spec.priority, spec.max_attempts, spec.backoff, spec.timeout,
        spec.unique_by, spec.unique_key, spec.unique_until, v_now, v_scheduled_at);

    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    values (
        id, v_scheduled_at, 0, 0, 2 * spec.priority + 1, spec.queue, spec.unique_key);
end;
$$;

create or replace function eram_enqueue_jobs(jobs jsonb)
    returns table (id bigint, is_duplicate boolean)
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_jobs      jsonb            := jobs;
    v_job       jsonb;
    v_number    bigint           := 0;
    v_spec      eram_job_specs;
    v_checked   jsonb;
    v_specs     eram_job_specs[] := '{}';
    v_is_unique boolean          := false;
    v_hint      text;
begin
    if jsonb_typeof(v_jobs) = 'object' then
        v_jobs := jsonb_build_array(v_jobs);
    elsif v_jobs is null or jsonb_typeof(v_jobs) <> 'array' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'jobs must be a JSON array of jobs, got %s',
                coalesce(jsonb_typeof(v_jobs), 'null')),
            hint = 'Pass [{"handler": "app.jobs:email", "args": {}}, ...].';
    end if;

    -- A block that only reads: it takes no transaction id. It is here to say which job is at fault.
    begin
        for v_job in select value from jsonb_array_elements(v_jobs) loop
            v_number := v_number + 1;
            v_spec := _eram_read_spec(v_job, v_checked);
            v_checked := v_spec.unique_by;
            v_specs := array_append(v_specs, v_spec);
            v_is_unique := v_is_unique or v_spec.unique_key is not null;
        end loop;
    exception
        when data_exception or feature_not_supported or name_too_long or invalid_name then
            get stacked diagnostics v_hint = pg_exception_hint;
            raise exception using
                errcode = sqlstate,
                message = sqlerrm,
                detail = format(
                    'The mistake is in job %s of %s.',
                    v_number, jsonb_array_length(v_jobs)),
                hint = v_hint;
    end;

    if exists (select from eram_queue_grants as restricted) then
        perform _eram_check_may_enqueue(v_specs);
    end if;

    if cardinality(v_specs) = 1 then
        return query
        select
            inserted.id,
            inserted.is_duplicate
        from _eram_insert_job(v_specs[1]) as inserted;
    elsif v_is_unique then
        return query
        select
            inserted.id,
            inserted.is_duplicate
        from _eram_insert_unique_jobs(v_specs) as inserted;
    else
        return query
        select
            inserted.job_id,
            false
        from _eram_insert_jobs(v_specs) as inserted (job_id);
    end if;
end;
$$;

comment on function eram_enqueue_jobs is
    'Enqueue a JSON array of jobs, or one, in all or nothing. A job is an object with the keys '
    'handler, args, queue, priority, max_attempts, scheduled_at, delay, tags, meta, backoff, '
    'timeout, unique, and defaults: an object of such values that hold where neither the job nor '
    'an administrator says otherwise. Returns the ids in the order of the array; a duplicate''s is '
    'that of the job which has its unique key.';

create or replace function eram_enqueue_job(job jsonb)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_spec     eram_job_specs := _eram_read_spec(job);
    v_inserted record;
begin
    if exists (select from eram_queue_grants as restricted) then
        perform _eram_check_may_enqueue(array[v_spec]);
    end if;

    v_inserted := _eram_insert_job(v_spec);
    return v_inserted.id;
end;
$$;

comment on function eram_enqueue_job(jsonb) is
    'Enqueue the job that a JSON object describes (keys: see eram_enqueue_jobs). Returns its id.';

create or replace function eram_enqueue_job(
    handler      text,
    args         jsonb       default null,
    queue        text        default null,
    priority     integer     default null,
    max_attempts integer     default null,
    scheduled_at timestamptz default null,
    delay        interval    default null,
    tags         text[]      default null,
    meta         jsonb       default null,
    backoff      jsonb       default null,
    timeout      interval    default null,
    unique_by    jsonb       default null
)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_spec     eram_job_specs;
    v_inserted record;
begin
    -- A driver that sends a JSON document as an untyped parameter lands here.
    if ltrim(handler, E' \t\r\n') like '{%' then
        if num_nonnulls(
            args, queue, priority, max_attempts, scheduled_at, delay, tags, meta, backoff, timeout,
            unique_by) > 0
        then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = 'a job given as one JSON document takes no further arguments',
                hint = 'Put them into the document.';
        end if;
        v_spec := _eram_read_spec(_eram_parse_json('job', handler));
    else
        v_spec := _eram_make_spec(
            handler, args, queue, priority, max_attempts, scheduled_at, delay, tags, meta, backoff,
            timeout, unique_by);
    end if;

    if exists (select from eram_queue_grants as restricted) then
        perform _eram_check_may_enqueue(array[v_spec]);
    end if;

    v_inserted := _eram_insert_job(v_spec);
    return v_inserted.id;
end;
$$;

comment on function eram_enqueue_job(
    text, jsonb, text, integer, integer, timestamptz, interval, text[], jsonb, jsonb, interval,
    jsonb
) is
    'Enqueue one job in the caller''s transaction; only the handler is required, null means the '
    'default. A handler that begins with { is read as a JSON document instead. Returns the '
    'job''s id, or that of the job which has its unique key already.';
