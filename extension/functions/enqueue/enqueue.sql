-- For producers: what a job is, is read and checked first, without a transaction id; then it is
-- stored (insert.sql).

create or replace function eram_enqueue_jobs(jobs jsonb)
    returns table (id bigint, is_duplicate boolean)
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    c_few   constant integer := 3;
    v_jobs  jsonb            := jobs;
    v_read  record;
    v_specs eram_job_specs[];
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

    if v_jobs = '[]' then
        return;
    elsif jsonb_array_length(v_jobs) <= c_few then
        v_read := _eram_read_one_by_one(v_jobs);
    else
        -- A block that only reads: it takes no transaction id.
        begin
            v_read := _eram_read_batch(v_jobs);
        exception
            when data_exception or feature_not_supported or name_too_long or invalid_name then
                v_read := _eram_read_one_by_one(v_jobs);
        end;
    end if;

    v_specs := v_read.specs;

    if exists (select from eram_queue_grants as restricted) then
        perform _eram_check_may_enqueue(v_specs);
    end if;

    if cardinality(v_specs) = 1 then
        return query
        select
            inserted.id,
            inserted.is_duplicate
        from _eram_insert_job(v_specs[1]) as inserted;
    elsif v_read.is_unique then
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
        from _eram_insert_jobs(v_specs, v_read.queues) as inserted (job_id);
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
    v_spec eram_job_specs := _eram_read_spec(job);
begin
    if exists (select from eram_queue_grants as restricted) then
        perform _eram_check_may_enqueue(array[v_spec]);
    end if;

    return (_eram_insert_job(v_spec)).id;
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
    c_class    constant integer := 'eram_queues'::regclass::oid::integer;
    v_handler  eram_handlers;
    v_queue    text;
    v_settings eram_queues;
    v_now      timestamptz;
    v_id       bigint;
    v_spec     eram_job_specs;
begin
    -- Most jobs are plain ones: a handler, arguments, perhaps a queue. What _eram_make_spec() and
    -- _eram_insert_job() do for any job is done for these on the spot, at four fifths of the cost.
    if num_nonnulls(priority, max_attempts, scheduled_at, delay) = 0
        and num_nonnulls(tags, meta, backoff, timeout, unique_by) = 0
        and octet_length(handler) <= 128
        and handler ~ '^[!-z~]+$'
        and (queue is null or octet_length(queue) <= 128 and queue ~ '^[!-~]+$')
        and (args is null or jsonb_typeof(args) = 'object')
    then
        select handlers.* into v_handler
        from eram_handlers as handlers
        where handlers.name = eram_enqueue_job.handler;

        if v_handler.alias_of is null
            and v_handler.unique_by is null
            and not exists (select from eram_queue_grants as restricted)
        then
            v_queue := coalesce(queue, v_handler.queue, _eram_default_queue());

            select queues.* into v_settings
            from eram_queues as queues
            where queues.name = v_queue;

            -- The transaction id first, then whatever may wait, and the clock last.
            v_now := case
                when pg_current_xact_id() is not null
                    and pg_try_advisory_lock(c_class, hashtext(v_queue))
                then case
                    when pg_advisory_unlock(c_class, hashtext(v_queue)) then clock_timestamp()
                end
            end;
            if v_now is null then
                perform _eram_wake(v_queue);
                v_now := clock_timestamp();
            end if;

            insert into eram_job_specs (
                handler, args, meta, tags, queue, priority, max_attempts, backoff, timeout,
                inserted_at, scheduled_at)
            values (
                eram_enqueue_job.handler,
                coalesce(eram_enqueue_job.args, '{}'),
                nullif(v_handler.meta, '{}'),
                coalesce(v_handler.tags, '{}'),
                v_queue,
                coalesce(v_handler.priority, v_settings.priority, 0),
                coalesce(
                    v_handler.max_attempts, v_settings.max_attempts, _eram_default_max_attempts()),
                coalesce(v_handler.backoff, v_settings.backoff),
                v_handler.timeout,
                v_now,
                v_now)
            returning job_id into v_id;

            insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue)
            values (
                v_id, v_now, 0, 0,
                2 * coalesce(v_handler.priority, v_settings.priority, 0) + 1, v_queue);

            return v_id;
        end if;
    end if;

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

    return (_eram_insert_job(v_spec)).id;
end;
$$;

comment on function eram_enqueue_job(
    text, jsonb, text, integer, integer, timestamptz, interval, text[], jsonb, jsonb, interval,
    jsonb
) is
    'Enqueue one job in the caller''s transaction; only the handler is required, null means the '
    'default. A handler that begins with { is read as a JSON document instead. Returns the '
    'job''s id, or that of the job which has its unique key already.';
