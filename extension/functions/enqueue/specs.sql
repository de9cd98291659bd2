-- Making a job of what the producer gave: validated, and with what was left out filled in. The
-- result is a row of eram_job_specs as wanted: scheduled_at null means at once.

create or replace function _eram_check_values(
    args         jsonb,
    priority     integer,
    max_attempts integer,
    scheduled_at timestamptz,
    delay        interval,
    tags         text[],
    meta         jsonb,
    backoff      jsonb,
    timeout      interval
)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if priority is not null then
        perform _eram_check_priority(priority);
    end if;
    if max_attempts is not null then
        perform _eram_check_max_attempts(max_attempts);
    end if;
    if args is not null then
        perform _eram_check_object('args', args);
    end if;
    if meta is not null then
        perform _eram_check_object('meta', meta);
    end if;
    if tags is not null then
        perform _eram_check_tags(tags);
    end if;
    if backoff is not null then
        perform _eram_check_backoff(backoff);
    end if;
    if timeout is not null then
        perform _eram_check_timeout(timeout);
    end if;
    if scheduled_at is not null then
        perform _eram_check_scheduled_at(scheduled_at);
    end if;
    if delay is not null then
        perform _eram_check_delay('delay', delay);
        if scheduled_at is not null then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = 'delay and scheduled_at exclude each other',
                hint = 'Pass one of the two.';
        end if;
    end if;
end;
$$;

-- The one place where a job is made of its parts: validates, and fills in what was left out.
-- Null is the default of the handler, else of the queue, else eram's. What is said of uniqueness is
-- not checked again if it is the same as what has been checked.
create or replace function _eram_make_spec(
    handler      text,
    args         jsonb,
    queue        text,
    priority     integer,
    max_attempts integer,
    scheduled_at timestamptz,
    delay        interval,
    tags         text[],
    meta         jsonb,
    backoff      jsonb,
    timeout      interval,
    unique_by    jsonb,
    checked      jsonb default null
)
    returns eram_job_specs
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_name     text := handler;
    v_spec     eram_job_specs;
    v_handler  eram_handlers;
    v_settings eram_queues;
    v_queue    text;
begin
    -- An enqueue is a hot path, and each expression of its own costs a microsecond in a transaction
    -- of its own: hence few and long ones. A check is only called where there is something to
    -- check, and most names are short and plain.
    if v_name is null
        or octet_length(v_name) > 128
        or v_name !~ '^[!-z~]+$'
        or octet_length(queue) > 128
        or queue !~ '^[!-~]+$'
    then
        perform _eram_check_handler(v_name);
        if queue is not null then
            perform _eram_check_queue(queue);
        end if;
    end if;

    select handlers.* into v_handler
    from eram_handlers as handlers
    where handlers.name = v_name;

    if v_handler.alias_of is not null then
        v_name := _eram_handler_name(v_name);
        select handlers.* into v_handler
        from eram_handlers as handlers
        where handlers.name = v_name;
    end if;

    v_queue := coalesce(queue, v_handler.queue, _eram_default_queue());

    select queues.* into v_settings
    from eram_queues as queues
    where queues.name = v_queue;

    if num_nonnulls(priority, max_attempts, scheduled_at, delay, tags, backoff, timeout) > 0
        or jsonb_typeof(args) <> 'object'
        or jsonb_typeof(meta) <> 'object'
    then
        perform _eram_check_values(
            args, priority, max_attempts, scheduled_at, delay, tags, meta, backoff, timeout);
    end if;

    v_spec := row(
        null,
        v_name,
        coalesce(args, '{}'),
        nullif(coalesce(meta, v_handler.meta), '{}'),
        -- Counted from one, whatever the caller's array begins with.
        coalesce(tags[:], v_handler.tags, '{}'),
        v_queue,
        coalesce(priority, v_handler.priority, v_settings.priority, 0),
        coalesce(
            max_attempts,
            v_handler.max_attempts,
            v_settings.max_attempts,
            _eram_default_max_attempts()),
        coalesce(backoff, v_handler.backoff, v_settings.backoff),
        coalesce(timeout, v_handler.timeout),
        coalesce(unique_by, v_handler.unique_by),
        null,
        null,
        null,
        coalesce(scheduled_at, clock_timestamp() + delay)
    )::eram_job_specs;

    if v_spec.unique_by is not null then
        -- Nearly always there is nothing to check.
        if unique_by is distinct from checked
            and (
                case jsonb_typeof(unique_by)
                    when 'boolean' then false
                    when 'object' then unique_by - 'period' <> '{}'
                        or jsonb_typeof(unique_by -> 'period') is distinct from 'number'
                        or (unique_by ->> 'period')::numeric not between 0.001 and 1000000
                    else unique_by is not null
                end)
        then
            perform _eram_check_unique_by(unique_by);
        end if;
        if v_spec.unique_by = 'false' then
            v_spec.unique_by := null;
        else
            v_spec.unique_key := _eram_unique_key(v_spec);
        end if;
    end if;

    return v_spec;
end;
$$;

-- What a client knows of its handler, such as what a decorator says, goes before what was
-- registered last, but not before what an administrator has set.
create or replace function _eram_with_defaults(job jsonb)
    returns jsonb
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_defaults  jsonb := nullif(job -> 'defaults', 'null');
    v_overrides jsonb;
begin
    if v_defaults is null then
        return job;
    end if;
    perform _eram_check_object('defaults', v_defaults);
    perform _eram_check_keys('defaults', v_defaults, _eram_handler_keys());

    select handlers.overrides into v_overrides
    from eram_handlers as handlers
    where handlers.name = _eram_handler_name(job ->> 'handler');

    return (
        select v_defaults || jsonb_object_agg(given.key, given.value)
        from (
            select
                own.key,
                own.value
            from jsonb_each(job) as own
            where own.value <> 'null'
            union all
            -- As if it had not been given.
            select
                overridden.key,
                'null'
            from jsonb_object_keys(v_overrides) as overridden (key)
            where coalesce(job -> overridden.key, 'null') = 'null'
        ) as given
    );
end;
$$;

create or replace function _eram_read_spec(job jsonb, checked jsonb default null)
    returns eram_job_specs
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_keys constant text[] := array[
        'handler', 'args', 'queue', 'priority', 'max_attempts', 'scheduled_at', 'delay', 'tags',
        'meta', 'backoff', 'timeout', 'unique', 'defaults'];
    v_job  jsonb           := job;
begin
    if job is null or jsonb_typeof(job) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'a job must be a JSON object, got %s',
                coalesce(jsonb_typeof(job), 'null')),
            hint = 'Pass a document such as {"handler": "app.jobs:email", "args": {}}.';
    end if;

    if job - c_keys <> '{}' then
        perform _eram_check_keys('job', job, c_keys);
    end if;

    if v_job ? 'defaults' then
        v_job := _eram_with_defaults(v_job);
    end if;

    return _eram_make_spec(
        handler => case
            when jsonb_typeof(v_job -> 'handler') = 'string' then v_job ->> 'handler'
            else _eram_read_text('handler', v_job -> 'handler')
        end,
        args => nullif(v_job -> 'args', 'null'),
        queue => case when v_job ? 'queue' then _eram_read_text('queue', v_job -> 'queue') end,
        priority => case
            when v_job ? 'priority' then _eram_read_integer('priority', v_job -> 'priority')
        end,
        max_attempts => case
            when v_job ? 'max_attempts'
            then _eram_read_integer('max_attempts', v_job -> 'max_attempts')
        end,
        scheduled_at => case
            when v_job ? 'scheduled_at'
            then _eram_read_timestamp('scheduled_at', v_job -> 'scheduled_at')
        end,
        delay => case when v_job ? 'delay' then _eram_read_interval('delay', v_job -> 'delay') end,
        tags => case when v_job ? 'tags' then _eram_read_tags(v_job -> 'tags') end,
        meta => nullif(v_job -> 'meta', 'null'),
        backoff => nullif(v_job -> 'backoff', 'null'),
        timeout => case
            when v_job ? 'timeout' then _eram_read_interval('timeout', v_job -> 'timeout')
        end,
        unique_by => nullif(v_job -> 'unique', 'null'),
        checked => checked);
end;
$$;
