-- When a schedule runs next. All of it is arithmetic on what the clock of a time zone shows, and
-- independent of the session's settings: what is added to a timestamptz has hours at most, since
-- a day is as long as the session's time zone has it. The functions here take what
-- _eram_check_schedule() and _eram_check_timezone() have returned.

-- The next whole minute after `clock` that the masks of _eram_parse_cron() allow; both are what a
-- clock shows, written as if it stood in Greenwich.
create or replace function _eram_next_match(
    times bit varying,
    days bit varying,
    months bit varying,
    weekdays bit varying,
    is_either boolean,
    clock timestamptz
)
    returns timestamptz
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_last   constant timestamp := '9999-12-31 00:00:00';
    v_start  timestamp := date_trunc('minute', clock at time zone 'UTC') + interval '1 minute';
    v_today  timestamp := date_trunc('day', v_start);
    v_month  timestamp := date_trunc('month', v_start);
    v_day    integer := extract(day from v_start);
    v_minute integer := extract(hour from v_start) * 60 + extract(minute from v_start);
    v_wait   integer := position(b'1' in substring(times from v_minute + 1));
    v_days   bit varying;
    v_skip   integer;
    v_found  timestamp;
begin
    if v_wait = 0 then
        v_day := v_day + 1;
    end if;

    loop
        v_skip := position(b'1' in substring(
            months || months from extract(month from v_month)::integer for 12)) - 1;
        if v_skip > 0 then
            v_month := v_month + make_interval(months => v_skip);
            v_day := 1;
        end if;
        exit when v_month > c_last;

        v_days := substring(
            weekdays || weekdays || weekdays || weekdays || weekdays || weekdays
            from extract(dow from v_month)::integer + 1
            for 31);
        v_days := case when is_either then days | v_days else days & v_days end;
        v_skip := position(b'1' in substring(
            v_days
            from v_day
            for extract(day from v_month + interval '1 month -1 day')::integer + 1 - v_day));
        if v_skip > 0 then
            v_found := v_month + make_interval(days => v_day + v_skip - 2);
            v_found := v_found + make_interval(
                mins => case
                    when v_found = v_today then v_minute + v_wait - 1
                    else position(b'1' in times) - 1
                end);
            exit;
        end if;

        v_month := v_month + interval '1 month';
        v_day := 1;
    end loop;
    return case when v_found < c_last then v_found at time zone 'UTC' end;
end;
$$;

-- At most so many occurrences of a cron schedule in (after, until], from the first on.
create or replace function _eram_cron_occurrences(
    schedule text,
    timezone text,
    after timestamptz,
    until timestamptz,
    most bigint
)
    returns timestamptz[]
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_timezone text := timezone;
    v_until    timestamptz := until;
    v_cron     record := _eram_parse_cron(schedule);
    v_from     timestamptz := after;
    v_clock    timestamp := after at time zone v_timezone;
    v_ahead    timestamptz := after - interval '25 hours';
    v_offset   interval := v_clock - v_from at time zone 'UTC';
    v_next     timestamp;
    v_moment   timestamptz;
    v_found    timestamptz[] := '{}';
begin
    -- What the clock has shown before it was set back has had its occurrence then.
    if v_cron.is_fixed
        and v_ahead at time zone v_timezone - v_ahead at time zone 'UTC' > v_offset
    then
        v_moment := _eram_clock_change(v_timezone, v_ahead, v_from);
        v_clock := greatest(
            v_clock, (v_moment - interval '1 microsecond') at time zone v_timezone);
    end if;

    while cardinality(v_found) < most loop
        v_next := _eram_next_match(
            v_cron.times, v_cron.days, v_cron.months, v_cron.weekdays, v_cron.is_either,
            v_clock at time zone 'UTC') at time zone 'UTC';
        exit when v_next is null;

        if v_cron.is_fixed then
            v_moment := _eram_first_moment(v_timezone, v_next at time zone 'UTC');
            v_clock := greatest(v_next, v_moment at time zone v_timezone);
        else
            -- Time as it passes: right if nobody sets the clock on the way.
            v_offset := v_from at time zone v_timezone - v_from at time zone 'UTC';
            v_moment := (v_next - v_offset) at time zone 'UTC';
            v_ahead := least(v_moment, v_from + interval '25 hours');
            if v_ahead at time zone v_timezone - v_ahead at time zone 'UTC' <> v_offset then
                v_from := _eram_clock_change(v_timezone, v_from, v_ahead);
                v_clock := v_from at time zone v_timezone - interval '1 microsecond';
                continue;
            elsif v_ahead < v_moment then
                -- Not set for a day, it will not show again what it shows now.
                v_from := greatest(
                    v_ahead, v_next at time zone v_timezone - interval '50 hours');
                v_clock := v_from at time zone v_timezone;
                continue;
            end if;
            v_from := v_moment;
            v_clock := v_next;
        end if;

        exit when v_moment > v_until;
        v_found := v_found || v_moment;
    end loop;
    return v_found;
end;
$$;

create or replace function _eram_next_run(schedule text, timezone text, after timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_first  constant timestamptz := '0001-01-02 00:00:00+00';
    c_last   constant timestamptz := '9999-12-31 00:00:00+00';
    v_after  timestamptz := after;
    v_moment timestamptz;
begin
    if (v_after between c_first and c_last) is not true then
        return null;
    end if;
    v_moment := v_after + _eram_schedule_interval(schedule);
    -- A statement of its own: in one expression the planner would compute both.
    if v_moment is null then
        v_moment := (_eram_cron_occurrences(schedule, timezone, v_after, c_last, 1))[1];
    end if;
    return case when v_moment < c_last then v_moment end;
end;
$$;

-- The latest `most` occurrences in [first, until], in their order; `first` is one itself.
create or replace function _eram_missed_runs(
    schedule text,
    timezone text,
    first timestamptz,
    until timestamptz,
    most integer
)
    returns timestamptz[]
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_first    timestamptz := first;
    v_until    timestamptz := until;
    v_most     bigint := most;
    v_interval interval := _eram_schedule_interval(schedule);
    v_count    bigint;
    -- It is cheaper to see a few too many than to look for the exact beginning.
    v_limit    bigint := v_most * 3 / 2 + 10;
    v_length   double precision := v_most * 60;
    v_after    timestamptz;
    v_early    timestamptz;
    v_late     timestamptz := v_until;
    v_found    timestamptz[];
begin
    if v_interval is not null then
        v_count := floor(
            extract(epoch from v_until - v_first) / extract(epoch from v_interval));
        return array(
            select v_first + number * v_interval
            from generate_series(greatest(v_count - v_most + 1, 0), v_count) as number
            order by number);
    end if;

    -- Backwards, by a window that doubles until it holds enough, and is halved if it holds too
    -- many: a minute's schedule may be years behind, and its days may lie a year apart.
    loop
        if v_early is null then
            v_after := greatest(
                v_first - interval '1 microsecond', v_until - make_interval(secs => v_length));
            v_length := v_length * 2;
        else
            v_after := v_early + make_interval(
                secs => extract(epoch from v_late - v_early)::double precision / 2);
        end if;
        v_found := _eram_cron_occurrences(schedule, timezone, v_after, v_until, v_limit + 1);
        v_count := cardinality(v_found);
        if v_count > v_limit then
            v_early := v_after;
        elsif v_count < v_most and v_after >= v_first then
            v_late := v_after;
        else
            exit;
        end if;
    end loop;
    return v_found[greatest(v_count - v_most, 0) + 1 :];
end;
$$;

create or replace function eram_next_run(
    schedule text,
    timezone text default null,
    after timestamptz default null
)
    returns timestamptz
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_schedule text := _eram_check_schedule(schedule);
    v_timezone text := _eram_check_timezone(coalesce(timezone, 'UTC'));
    v_after    timestamptz := coalesce(after, clock_timestamp());
begin
    if v_after < timestamptz '0001-01-02 00:00:00+00'
        or v_after > timestamptz '9999-12-31 00:00:00+00'
    then
        raise exception using
            errcode = 'datetime_field_overflow',
            message = format('after is out of range: %s', v_after),
            hint = 'Pass a finite time of the years 1 to 9999.';
    end if;

    return _eram_next_run(v_schedule, v_timezone, v_after);
end;
$$;

comment on function eram_next_run(text, text, timestamptz) is
    'Says when a schedule (five cron fields, a nickname such as @daily, or an interval) runs next, '
    'strictly after a time (null: now), by the clock of a time zone (null: UTC). Returns null when '
    'it does not run again before the year 9999. Looks only: nothing is scheduled.';
