-- Making a job of what the producer gave: validated, and with what was left out filled in. The
-- result is a row of eram_job_specs as wanted: scheduled_at null means at once.

-- The one place where a job is made of its parts: validates, and fills in what was left out.
-- Null is the default of the queue, else eram's.
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
    backoff      jsonb
)
    returns eram_job_specs
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_spec     eram_job_specs;
    v_settings record;
begin
    v_spec.handler := handler;
    v_spec.queue := coalesce(queue, _eram_default_queue());
    v_spec.args := coalesce(args, '{}');
    v_spec.meta := coalesce(meta, '{}');
    v_spec.tags := coalesce(tags, '{}');
    v_spec.scheduled_at := scheduled_at;

    -- A check is only called where there is something to check: an enqueue is a hot path, and most
    -- names are short and plain.
    if v_spec.handler is null
        or octet_length(v_spec.handler) > 128
        or v_spec.handler !~ '^[!-z~]+$'
    then
        perform _eram_check_handler(v_spec.handler);
    end if;
    if octet_length(v_spec.queue) > 128 or v_spec.queue !~ '^[!-~]+$' then
        perform _eram_check_queue(v_spec.queue);
    end if;

    select
        queues.priority,
        queues.max_attempts,
        queues.backoff
    into v_settings
    from eram_queues as queues
    where queues.name = v_spec.queue;

    v_spec.priority := coalesce(v_settings.priority, 0);
    v_spec.max_attempts := coalesce(
        max_attempts,
        v_settings.max_attempts,
        _eram_default_max_attempts());
    v_spec.backoff := coalesce(backoff, v_settings.backoff);

    if priority is not null then
        perform _eram_check_priority(priority);
        v_spec.priority := priority;
    end if;
    if max_attempts is not null then
        perform _eram_check_max_attempts(max_attempts);
    end if;
    if jsonb_typeof(v_spec.args) <> 'object' then
        perform _eram_check_object('args', v_spec.args);
    end if;
    if jsonb_typeof(v_spec.meta) <> 'object' then
        perform _eram_check_object('meta', v_spec.meta);
    end if;
    if tags is not null then
        perform _eram_check_tags(tags);
    end if;
    if backoff is not null then
        perform _eram_check_backoff(backoff);
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
        v_spec.scheduled_at := clock_timestamp() + delay;
    end if;

    return v_spec;
end;
$$;

create or replace function _eram_read_spec(job jsonb)
    returns eram_job_specs
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_keys constant text[] := array[
        'handler', 'args', 'queue', 'priority', 'max_attempts', 'scheduled_at', 'delay', 'tags',
        'meta', 'backoff', 'timeout', 'unique'];
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

    if coalesce(job -> 'timeout', 'null') <> 'null' then
        perform _eram_raise_unsupported('timeout');
    end if;
    if coalesce(job -> 'unique', 'null') <> 'null' then
        perform _eram_raise_unsupported('unique');
    end if;

    return _eram_make_spec(
        handler => case
            when jsonb_typeof(job -> 'handler') = 'string' then job ->> 'handler'
            else _eram_read_text('handler', job -> 'handler')
        end,
        args => nullif(job -> 'args', 'null'),
        queue => case when job ? 'queue' then _eram_read_text('queue', job -> 'queue') end,
        priority => case
            when job ? 'priority' then _eram_read_integer('priority', job -> 'priority')
        end,
        max_attempts => case
            when job ? 'max_attempts' then _eram_read_integer('max_attempts', job -> 'max_attempts')
        end,
        scheduled_at => case
            when job ? 'scheduled_at'
            then _eram_read_timestamp('scheduled_at', job -> 'scheduled_at')
        end,
        delay => case when job ? 'delay' then _eram_read_interval('delay', job -> 'delay') end,
        tags => case when job ? 'tags' then _eram_read_tags(job -> 'tags') end,
        meta => nullif(job -> 'meta', 'null'),
        backoff => nullif(job -> 'backoff', 'null'));
end;
$$;
