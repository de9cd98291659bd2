-- What makes a job unique: true, false, or an object of these, all of which may be left out:
--   period       how long, in seconds or as an interval (a day is 24 hours, a month 30 days);
--                without it until the job ends
--   fields       what must be equal: some of handler, queue, args, meta
--   keys         which keys of args must be equal; without it all of them
--   on_conflict  what becomes of a second job: skip, replace, raise

create or replace function _eram_unique_fields()
    returns text[]
    language sql
    immutable
    set search_path from current
as $$
    select '{handler,queue,args,meta}'::text[];
$$;

create or replace function _eram_check_unique_list(what text, value jsonb, allowed text[])
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_most constant integer := 100;
    v_name text;
begin
    if jsonb_typeof(value) <> 'array'
        or jsonb_array_length(value) not between 1 and c_most
        or jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")')
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                '%s of unique must be a list of 1 to %s strings, got %s',
                what, c_most, left(value::text, 100)),
            hint = format('Pass a list such as ["%s"].', coalesce(allowed[1], 'user_id'));
    end if;

    if allowed is null or value <@ to_jsonb(allowed) then
        return;
    end if;

    select names.name into v_name
    from jsonb_array_elements_text(value) as names (name)
    where names.name <> all (allowed)
    limit 1;

    if v_name is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown field "%s" in unique', left(v_name, 100)),
            hint = format('Did you mean "%s"?', _eram_nearest(v_name, allowed));
    end if;
end;
$$;

create or replace function _eram_check_unique_by(unique_by jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_keys      constant text[]   := '{period,fields,keys,on_conflict}';
    c_conflicts constant text[]   := '{skip,replace,raise}';
    v_period             interval;
begin
    if jsonb_typeof(unique_by) = 'boolean' then
        return;
    elsif jsonb_typeof(unique_by) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'unique must be true, false or a JSON object, got %s',
                jsonb_typeof(unique_by)),
            hint = 'Pass {"period": 30}, or true for until the job ends.';
    end if;
    if unique_by - c_keys <> '{}' then
        perform _eram_check_keys('unique', unique_by, c_keys);
    end if;

    if unique_by ? 'period' and unique_by -> 'period' <> 'null' then
        v_period := _eram_read_interval('period of unique', unique_by -> 'period');
        perform _eram_check_delay('period of unique', v_period);
        if v_period = interval '0' then
            raise exception using
                errcode = 'numeric_value_out_of_range',
                message = 'period of unique must be longer than zero',
                hint = 'Leave it out for until the job ends.';
        end if;
    end if;
    if unique_by ? 'fields' and unique_by -> 'fields' <> 'null' then
        perform _eram_check_unique_list('fields', unique_by -> 'fields', _eram_unique_fields());
    end if;
    if unique_by ? 'keys' and unique_by -> 'keys' <> 'null' then
        perform _eram_check_unique_list('keys', unique_by -> 'keys', null);
        if unique_by ? 'fields'
            and not coalesce(nullif(unique_by -> 'fields', 'null') ? 'args', true)
        then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = 'keys of unique are keys of args, which are not among its fields',
                hint = 'Add "args" to the fields, or leave the keys out.';
        end if;
    end if;
    if unique_by ? 'on_conflict'
        and unique_by -> 'on_conflict' <> 'null'
        and (
            jsonb_typeof(unique_by -> 'on_conflict') <> 'string'
            or unique_by ->> 'on_conflict' <> all (c_conflicts))
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'unknown on_conflict of unique: %s',
                left((unique_by -> 'on_conflict')::text, 100)),
            hint = format('It is one of %s.', array_to_string(c_conflicts, ', '));
    end if;
end;
$$;

-- Null when it lasts until the job ends.
create or replace function _eram_unique_period(unique_by jsonb)
    returns interval
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if coalesce(unique_by -> 'period', 'null') = 'null' then
        return null;
    elsif jsonb_typeof(unique_by -> 'period') = 'number' then
        return make_interval(secs => (unique_by -> 'period')::double precision);
    end if;
    -- In seconds, for a day is 24 hours whatever the time zone of the producer's session.
    return make_interval(
        secs => extract(
            epoch from _eram_read_interval('period of unique', unique_by -> 'period')
        )::double precision);
end;
$$;

-- The same for every producer: the names of what counts, and its values as jsonb writes them. The
-- period is not part of it, so that a job with another one is a duplicate all the same.
create or replace function _eram_unique_key(spec eram_job_specs)
    returns bytea
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_length constant integer := 16;
    v_fields jsonb            := nullif(spec.unique_by -> 'fields', 'null');
    v_keys   jsonb            := nullif(spec.unique_by -> 'keys', 'null');
    v_args   jsonb            := spec.args;
    v_value  jsonb;
    v_parts  jsonb;
begin
    if v_keys is not null then
        v_args := '{}';
        for i in 0..jsonb_array_length(v_keys) - 1 loop
            v_value := spec.args -> (v_keys ->> i);
            if v_value is not null then
                v_args := v_args || jsonb_build_object(v_keys ->> i, v_value);
            end if;
        end loop;
        -- So that they are never taken for all of args.
        v_args := jsonb_build_array(v_args, jsonb_array_length(v_keys));
    end if;

    if v_fields is null then
        v_parts := jsonb_build_array(spec.handler, spec.queue, v_args, null);
    else
        v_parts := jsonb_build_array(
            case when v_fields ? 'handler' then spec.handler end,
            case when v_fields ? 'queue' then spec.queue end,
            case when v_fields ? 'args' then v_args end,
            case when v_fields ? 'meta' then coalesce(spec.meta, '{}') end);
    end if;
    return substr(
        sha256(convert_to(
            v_parts::text,
            -- Its bytes may be no characters at all.
            case getdatabaseencoding() when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end)),
        1, c_length);
end;
$$;
