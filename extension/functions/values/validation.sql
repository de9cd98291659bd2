-- What every call refuses. A caller's mistake is an error that names the value, and nothing is
-- written.

create or replace function _eram_check_name(what text, value text, longest integer)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if value is null or value = '' then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s must not be null or empty', what),
            hint = format('Pass the name of the %s.', what);
    elsif length(value) > longest then
        raise exception using
            errcode = 'name_too_long',
            message = format('%s of %s characters is too long', what, length(value)),
            hint = format('A %s has at most %s characters.', what, longest);
    elsif value ~ '[[:cntrl:]]' or value <> btrim(value) then
        raise exception using
            errcode = 'invalid_name',
            message = format('invalid %s: %s', what, to_json(value)),
            hint = 'Use no control characters, and no blanks at the beginning or end.';
    end if;
end;
$$;

create or replace function _eram_check_queue(queue text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    perform _eram_check_name('queue', queue, 128);
end;
$$;

create or replace function _eram_check_handler(handler text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    perform _eram_check_name('handler', handler, 512);
    if handler ~ '[{}]' then
        raise exception using
            errcode = 'invalid_name',
            message = format('invalid handler: %s', to_json(left(handler, 100))),
            hint = 'A handler has no braces; a JSON document begins with one.';
    end if;
end;
$$;

create or replace function _eram_check_priority(priority integer)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if priority not between 0 and 9 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('priority must be between 0 and 9, got %s', priority),
            hint = '0 is claimed first, 9 last.';
    end if;
end;
$$;

create or replace function _eram_check_max_attempts(max_attempts integer)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if max_attempts not between 1 and _eram_most_attempts() then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format(
                'max_attempts must be between 1 and %s, got %s',
                _eram_most_attempts(), max_attempts),
            hint = 'With 1 the job is not retried.';
    end if;
end;
$$;

create or replace function _eram_check_delay(what text, delay interval)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if delay is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s must not be null', what),
            hint = 'Pass an interval, such as ''1 minute''.';
    elsif not isfinite(delay)
        or delay > _eram_longest_delay()
        -- Part by part: '-1 month 30 days' is zero by comparison, and yet goes back.
        or extract(year from delay) < 0
        or extract(month from delay) < 0
        or extract(day from delay) < 0
        or extract(hour from delay) < 0
        or extract(minute from delay) < 0
        or extract(second from delay) < 0
    then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format(
                '%s must be between 0 and %s, got %s',
                what, _eram_longest_delay(), delay),
            hint = 'Pass an interval, such as ''1 minute''.';
    end if;
end;
$$;

create or replace function _eram_check_scheduled_at(scheduled_at timestamptz)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if scheduled_at < timestamptz '0001-01-02 00:00:00+00'
        or scheduled_at > timestamptz '9999-12-31 00:00:00+00'
    then
        raise exception using
            errcode = 'datetime_field_overflow',
            message = format('scheduled_at is out of range: %s', scheduled_at),
            hint = 'Pass a finite time of the years 1 to 9999.';
    end if;
end;
$$;

create or replace function _eram_check_object(what text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if jsonb_typeof(value) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s must be a JSON object, got %s', what, jsonb_typeof(value)),
            hint = 'Wrap the value, such as {"value": ...}.';
    end if;
end;
$$;

create or replace function _eram_check_keys(what text, value jsonb, keys text[])
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_key text;
begin
    select given.name into v_key
    from jsonb_object_keys(value - keys) as given (name)
    limit 1;

    if v_key is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown key "%s" in %s', left(v_key, 100), what),
            hint = format('Did you mean "%s"?', _eram_nearest(v_key, keys));
    end if;
end;
$$;

create or replace function _eram_check_tags(tags text[])
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_tag text;
begin
    if array_ndims(tags) > 1 then
        raise exception using
            errcode = 'array_subscript_error',
            message = format(
                'tags must be a list, got an array of %s dimensions',
                array_ndims(tags)),
            hint = 'Pass tags as ''{one,two}''.';
    end if;

    foreach v_tag in array tags loop
        perform _eram_check_name('tag', v_tag, 255);
    end loop;
end;
$$;

create or replace function _eram_check_timeout(timeout interval)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    perform _eram_check_delay('timeout', timeout);
    -- As a statement_timeout, which is milliseconds in an integer, and no limit at 0.
    if timeout < interval '1 millisecond' or timeout > interval '24 days' then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('timeout must be between 1 millisecond and 24 days, got %s', timeout),
            hint = 'Pass an interval, such as ''1 minute''.';
    end if;
end;
$$;

-- The two arrays of a finish go together: ids[i] with runs[i].
create or replace function _eram_check_runs(ids bigint[], runs integer[])
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if ids is null or runs is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'ids and runs must not be null',
            hint = 'Pass id and run as eram_fetch() returned them.';
    elsif array_ndims(ids) > 1
        or array_ndims(runs) > 1
        or cardinality(ids) <> cardinality(runs)
    then
        raise exception using
            errcode = 'array_subscript_error',
            message = format(
                'ids and runs must be lists of one length, got %s and %s',
                cardinality(ids), cardinality(runs)),
            hint = 'Pass one run for each id.';
    elsif array_position(ids, null) is not null or array_position(runs, null) is not null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'ids and runs must not contain null',
            hint = 'Pass id and run as eram_fetch() returned them.';
    end if;
end;
$$;

-- The candidate that a misspelt word was most likely meant to be: the fewest letter pairs apart.
create or replace function _eram_nearest(word text, candidates text[])
    returns text
    language sql
    immutable
    set search_path from current
as $$
    select candidates.name
    from unnest(candidates) as candidates (name)
    cross join lateral (
        select count(*) as differences
        from (
            -- Bounded, because what is misspelt may be of any length.
            select substr(' ' || lower(left(word, 64)) || ' ', i, 2) as pair
            from generate_series(1, length(left(word, 64)) + 1) as i
        ) as given
        full join (
            select substr(' ' || candidates.name || ' ', i, 2) as pair
            from generate_series(1, length(candidates.name) + 1) as i
        ) as meant using (pair)
        where given.pair is null or meant.pair is null
    ) as distance
    order by
        distance.differences,
        candidates.name
    limit 1;
$$;
