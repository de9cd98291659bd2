-- Reading the values of a JSON document, each of a kind that JSON itself does not know. What
-- does not fit is refused by its name.

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
    set intervalstyle to postgres
as $$
declare
    v_longest numeric := extract(epoch from _eram_longest_delay());
begin
    case jsonb_typeof(value)
        when 'number' then
            if abs(value::numeric) <= v_longest then
                return make_interval(secs => round(value::numeric, 6)::double precision);
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
    -- Without a backslash, which means another thing where standard_conforming_strings is off.
    c_time constant text :=
        '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?'
        ' ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$';
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
        or jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")')
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('tags must be an array of strings, got %s', left(value::text, 100)),
            hint = 'Pass tags as ["one", "two"].';
    end if;
    return array(select jsonb_array_elements_text(value));
end;
$$;
