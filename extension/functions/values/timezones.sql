-- Names of time zones. PostgreSQL takes more for one than a name: abbreviations, which know no
-- daylight saving and mean what a setting says, and texts such as FOO+3, which any typing error
-- can become. A schedule takes names only.
--
-- Two facts about clocks are relied on: they are never set by more than a day, and never twice
-- within two days. (In the whole of the time zone database the closest are four days apart.)

-- Reads every time zone's file: for when a schedule is stored, not for when it runs. Returns the
-- name as the server spells it.
create or replace function _eram_check_timezone(timezone text)
    returns text
    language plpgsql
    stable
    set search_path from current
as $$
declare
    -- Names that are abbreviations too, which win where a clock is read. To the time zone
    -- database they are other names of these.
    c_unambiguous constant jsonb := jsonb_build_object(
        'CET', 'Europe/Brussels',
        'MET', 'Europe/Brussels',
        'EET', 'Europe/Athens',
        'WET', 'Europe/Lisbon',
        'EST', 'America/Panama',
        'MST', 'America/Phoenix',
        'HST', 'Pacific/Honolulu');
    c_longest     constant integer := 63;

    v_timezone text := timezone;
    v_name     text;
begin
    if v_timezone is null or v_timezone = '' then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'time zone must not be null or empty',
            hint = 'Pass a name of pg_timezone_names, such as Europe/Berlin.';
    elsif v_timezone in ('UTC', 'Etc/UTC') then
        return v_timezone;
    end if;

    select zones.name into v_name
    from pg_timezone_names as zones
    where lower(zones.name) = lower(left(v_timezone, c_longest + 1));

    if v_name is null then
        select zones.name into v_name
        from pg_timezone_names as zones
        where
            lower(zones.name) = (
                select _eram_nearest(v_timezone, array_agg(lower(names.name)))
                from pg_timezone_names as names
                where names.name !~ '^posix');
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('time zone %s does not exist', to_json(left(v_timezone, c_longest))),
            hint = format('Did you mean "%s"? Pass a name of pg_timezone_names.', v_name);
    end if;
    return coalesce(c_unambiguous ->> v_name, v_name);
end;
$$;

-- The first moment at which the clock, set once between the two given ones, shows the new time.
create or replace function _eram_clock_change(
    timezone text,
    after timestamptz,
    until timestamptz
)
    returns timestamptz
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_timezone text := timezone;
    v_offset   interval := after at time zone v_timezone - after at time zone 'UTC';
    -- Clocks are set at whole seconds.
    v_before   bigint := floor(extract(epoch from after));
    v_since    bigint := ceil(extract(epoch from until));
    v_middle   bigint;
    v_moment   timestamptz;
begin
    while v_since - v_before > 1 loop
        v_middle := (v_before + v_since) / 2;
        v_moment := to_timestamp(v_middle);
        if v_moment at time zone v_timezone - v_moment at time zone 'UTC' = v_offset then
            v_before := v_middle;
        else
            v_since := v_middle;
        end if;
    end loop;
    return to_timestamp(v_since);
end;
$$;

-- The first moment at which the clock shows this time; or more, when it leaps over it. `clock` is
-- what the clock shows, written as if it stood in Greenwich.
create or replace function _eram_first_moment(timezone text, clock timestamptz)
    returns timestamptz
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_timezone text := timezone;
    v_clock    timestamp := clock at time zone 'UTC';
    -- Of two moments this is the second; in a gap it is as if the clock had not been set.
    v_moment   timestamptz := v_clock at time zone v_timezone;
    v_before   timestamptz := v_moment - interval '25 hours';
    v_first    timestamptz;
begin
    if v_moment at time zone v_timezone <> v_clock then
        return _eram_clock_change(v_timezone, v_before, v_moment);
    end if;

    v_first := (v_clock - (v_before at time zone v_timezone - v_before at time zone 'UTC'))
        at time zone 'UTC';
    return case
        when v_first < v_moment and v_first at time zone v_timezone = v_clock then v_first
        else v_moment
    end;
end;
$$;
