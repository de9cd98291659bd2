-- What a schedule may be written as: five cron fields, a nickname, or an interval. All of it is
-- checked here, once, when a schedule is stored; what calculates takes the checked text.

-- How long it is from one run to the next when the schedule is an interval, else null. In hours,
-- because a day of a timestamptz is as long as the session's time zone has it.
create or replace function _eram_schedule_interval(schedule text)
    returns interval
    language plpgsql
    stable
    set search_path from current
as $$
begin
    -- No cron schedule begins like this: its first two fields know no names.
    if schedule collate "C" ~ '^[0-9.]+( ?[a-z]|:)' then
        return make_interval(secs => extract(epoch from schedule::interval)::double precision);
    end if;
    return null;
end;
$$;

create or replace function _eram_check_interval(schedule text)
    returns void
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_shortest constant interval := '1 second';
    c_longest  constant interval := '365 days';
    c_shape    constant text :=
        '^([0-9]+([.][0-9]+)? ?'
        '(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)( |$|(?=[0-9])))*'
        '([0-9]+:[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$';
    c_hint     constant text :=
        'An interval is made of numbers and units, such as 30 seconds or 1 hour 30 minutes; units '
        'are weeks, days, hours, minutes and seconds.';

    v_schedule text collate "C" := schedule;
    v_interval interval;
begin
    if v_schedule ~ '[0-9] ?(mon|month|y|yr|year)s?([^a-z]|$)' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('interval %s has no fixed length', to_json(schedule)),
            hint = 'Say days instead, or @monthly, @yearly or cron fields such as "0 0 1 * *".';
    end if;

    begin
        if v_schedule ~ c_shape then
            v_interval := _eram_schedule_interval(schedule);
        end if;
    exception
        -- The same unit twice, or a number that no interval can hold.
        when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
            v_interval := null;
    end;

    if v_interval is null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid interval %s', to_json(schedule)),
            hint = c_hint;
    elsif v_interval not between c_shortest and c_longest then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'interval %s is not between 1 second and 365 days', to_json(schedule)),
            hint = c_hint;
    elsif date_trunc('milliseconds', v_interval) <> v_interval then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('interval %s is finer than a millisecond', to_json(schedule)),
            hint = 'Schedules run at best once a second.';
    end if;
end;
$$;

create or replace function _eram_check_cron(schedule text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_cron    record := _eram_parse_cron(schedule);
    v_longest integer;
begin
    v_longest := case
        when position(b'1' in v_cron.months & b'101010110101') > 0 then 31
        when position(b'1' in v_cron.months & b'000101001010') > 0 then 30
        else 29
    end;
    if not v_cron.is_either and position(b'1' in v_cron.days) > v_longest then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('schedule %s names no day that there is', to_json(schedule)),
            hint = format('The longest of its months has %s days.', v_longest);
    end if;
end;
$$;

create or replace function _eram_check_nickname(schedule text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_nicknames constant text[] :=
        '{@hourly,@daily,@midnight,@weekly,@monthly,@yearly,@annually}';
begin
    if schedule ^@ '@reboot' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown nickname %s', to_json(schedule)),
            hint = 'A database knows no reboot.';
    elsif schedule ^@ '@every' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown nickname %s', to_json(schedule)),
            hint = 'Write the interval alone, such as 30 seconds.';
    elsif schedule <> all (c_nicknames) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown nickname %s', to_json(schedule)),
            hint = format(
                'Did you mean %s? The nicknames are %s.',
                _eram_nearest(schedule, c_nicknames), array_to_string(c_nicknames, ', '));
    end if;
end;
$$;

-- Returns the schedule as it is kept: in lower case, with single blanks.
create or replace function _eram_check_schedule(schedule text)
    returns text
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_longest  constant integer := 256;
    c_interval constant text := '^[-+]?[0-9.]+( ?[a-z]|:)';
    c_hint     constant text :=
        'A schedule is five cron fields such as "0 3 * * *" (minute, hour, day of month, month, '
        'day of week), a nickname such as @daily, or an interval such as 30 seconds.';
    c_fields   constant text :=
        'The fields are minute, hour, day of month, month and day of week; there is none for '
        'seconds or years.';

    v_schedule text collate "C";
    v_count    integer;
begin
    if length(schedule) > c_longest then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('schedule of %s characters is too long', length(schedule)),
            hint = format('A schedule has at most %s characters.', c_longest);
    end if;

    v_schedule := translate(schedule, chr(9) || chr(10) || chr(13), '   ');
    v_schedule := lower(btrim(regexp_replace(v_schedule, ' +', ' ', 'g')));
    v_count := cardinality(string_to_array(v_schedule, ' '));

    if v_schedule is null or v_schedule = '' then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'schedule must not be null or empty',
            hint = c_hint;
    elsif v_schedule ^@ '@' then
        perform _eram_check_nickname(v_schedule);
    elsif v_schedule ~ c_interval and (v_count <> 5 or v_schedule !~ '[*,/]') then
        perform _eram_check_interval(v_schedule);
    elsif v_count = 5 then
        perform _eram_check_cron(v_schedule);
    elsif v_count > 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('schedule has %s fields, not five: %s', v_count, to_json(schedule)),
            hint = c_fields;
    elsif v_schedule ~ '^[0-9.]+$' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid schedule %s', to_json(schedule)),
            hint = format('Write it with a unit, such as %s seconds.', v_schedule);
    else
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid schedule %s', to_json(schedule)),
            hint = c_hint;
    end if;

    return v_schedule;
end;
$$;
