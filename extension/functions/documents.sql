-- Jobs as JSON documents: what may be in one, and how it is read. The result is a row of
-- eram_job_specs as wanted: scheduled_at null means at once.

create or replace function _eram_parse_json(what text, value text)
    returns jsonb
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    return value::jsonb;
exception
    when data_exception then
        raise exception using
            errcode = sqlstate,
            message = format('%s is not valid JSON', what),
            detail = sqlerrm,
            hint = 'Pass one JSON object, such as {"handler": "app.jobs:email", "args": {}}.';
end;
$$;

create or replace function _eram_read_text(what text, value jsonb)
    returns text
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if jsonb_typeof(value) not in ('string', 'null') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s must be a string, got %s', what, jsonb_typeof(value)),
            hint = format('Put the %s in double quotes.', what);
    end if;
    return value #>> '{}';
end;
$$;

create or replace function _eram_read_integer(what text, value jsonb)
    returns integer
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_number numeric;
begin
    if jsonb_typeof(value) = 'null' then
        return null;
    elsif jsonb_typeof(value) = 'number' then
        v_number := value::numeric;
    end if;

    if v_number is null or v_number <> trunc(v_number) or abs(v_number) > 2147483647 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s must be an integer, got %s', what, left(value::text, 100)),
            hint = 'Pass a JSON number without a fraction.';
    end if;
    return v_number::integer;
end;
$$;

-- A number is seconds, a string is an interval.
create or replace function _eram_read_interval(what text, value jsonb)
    returns interval
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_longest numeric := extract(epoch from _eram_longest_delay());
begin
    case jsonb_typeof(value)
        when 'number' then
            if abs(value::numeric) <= v_longest then
                return make_interval(secs => value::double precision);
            end if;
            raise exception using
                errcode = 'numeric_value_out_of_range',
                message = format(
                    '%s must be between 0 and %s seconds, got %s',
                    what, v_longest, left(value::text, 100)),
                hint = 'A number is seconds.';
        when 'string' then
            return (value #>> '{}')::interval;
        when 'null' then
            return null;
        else
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format(
                    '%s must be a number or a string, got %s',
                    what, jsonb_typeof(value)),
                hint = 'A number is seconds, a string is an interval such as "1 minute".';
    end case;
exception
    when datetime_field_overflow or invalid_datetime_format or interval_field_overflow then
        raise exception using
            errcode = sqlstate,
            message = format('invalid %s: %s', what, left(value::text, 100)),
            hint = 'A number is seconds, a string is an interval such as "1 minute".';
end;
$$;

-- A time without an offset would mean another one on another server: it is refused.
create or replace function _eram_read_timestamp(what text, value jsonb)
    returns timestamptz
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_time constant text := '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)? ?(Z|[+-]\d\d(:?\d\d)?)$';
    c_hint constant text := 'Pass a string such as "2030-01-31T08:00:00+01:00".';
begin
    if jsonb_typeof(value) = 'null' then
        return null;
    elsif jsonb_typeof(value) <> 'string'
        or value #>> '{}' !~ c_time
    then
        raise exception using
            errcode = 'invalid_datetime_format',
            message = format(
                '%s must be a time with an offset, got %s',
                what, left(value::text, 100)),
            hint = c_hint;
    end if;
    return (value #>> '{}')::timestamptz;
exception
    when datetime_field_overflow or invalid_time_zone_displacement_value then
        raise exception using
            errcode = sqlstate,
            message = format('%s is no time of the calendar: %s', what, left(value::text, 100)),
            hint = c_hint;
end;
$$;

create or replace function _eram_read_tags(value jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if jsonb_typeof(value) = 'null' then
        return null;
    elsif jsonb_typeof(value) <> 'array'
        or jsonb_path_exists(value, '$[*] ? (@.type() != "string")')
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('tags must be an array of strings, got %s', left(value::text, 100)),
            hint = 'Pass tags as ["one", "two"].';
    end if;
    return array(select jsonb_array_elements_text(value));
end;
$$;

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
        or v_spec.handler !~ '^[!-~]+$'
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
    v_key  text;
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
        select keys.name into v_key
        from jsonb_object_keys(job - c_keys) as keys (name)
        limit 1;

        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown key "%s" in job', v_key),
            hint = format('Did you mean "%s"?', _eram_nearest(v_key, c_keys));
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
