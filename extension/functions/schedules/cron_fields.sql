-- What five cron fields mean. Texts compare by "C", so that no locale of a database has a say in
-- what "FRI" is; they are in lower case here, with single blanks.

create or replace function _eram_raise_bad_field(
    field integer,
    item text,
    schedule text,
    reason text default null
)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_names   constant text[] := '{minute,hour,day of month,month,day of week}';
    c_allowed constant text[] := array[
        'Minute is 0 to 59',
        'Hour is 0 to 23',
        'Day of month is 1 to 31',
        'Month is 1 to 12 or jan to dec',
        'Day of week is 0 to 7 (0 and 7 are Sunday) or sun to sat'];
    c_forms   constant text :=
        'written as *, one value, a range 1-5, a step */5 or 1-30/5, or a list of these with '
        'commas and no blanks.';
    v_hint    text := concat_ws(' ', reason, c_allowed[field] || ',', c_forms);
begin
    raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
            'invalid %s %s in schedule %s', c_names[field], to_json(item), to_json(schedule)),
        hint = v_hint;
end;
$$;

-- A field as a mask from its lowest value to its highest, the day of week with two Sundays.
create or replace function _eram_parse_cron_field(field integer, content text, schedule text)
    returns bit varying
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    -- Matched as a whole and then split: to capture the parts takes ten times as long.
    c_shape constant text :=
        '^([0-9]{1,4}|[a-z]{3})(-([0-9]{1,4}|[a-z]{3}))?(/[0-9]{1,4})?$|^[*](/[0-9]{1,4})?$';

    v_names   text[] := case field
        when 4 then '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'::text[]
        when 5 then '{sun,mon,tue,wed,thu,fri,sat}'::text[]
    end;
    v_lowest  integer := case when field in (3, 4) then 1 else 0 end;
    v_highest integer := case field
        when 1 then 59 when 2 then 23 when 3 then 31 when 4 then 12 else 7
    end;
    -- Where * and 5/10 end: a week ends on Saturday, although Sunday is also 7.
    v_last    integer := case when field = 5 then 6 else v_highest end;
    v_mask    bit varying := repeat('0', v_highest - v_lowest + 1)::bit varying;
    v_item    text collate "C";
    v_base    text collate "C";
    v_from    text collate "C";
    v_until   text collate "C";
    v_step    integer;
    v_low     integer;
    v_high    integer;
begin
    foreach v_item in array string_to_array(content, ',') loop
        if v_item !~ c_shape then
            perform _eram_raise_bad_field(
                field, v_item, schedule,
                case when v_item ~ '[#?lw]' then 'There is no ?, L, W or #.' end);
        end if;

        v_base := split_part(v_item, '/', 1);
        v_from := split_part(v_base, '-', 1);
        v_until := split_part(v_base, '-', 2);
        v_step := case when v_item = v_base then 1 else split_part(v_item, '/', 2)::integer end;
        v_low := case
            when v_from = '*' then v_lowest
            when v_from < 'a' then v_from::integer
            else array_position(v_names, v_from) + v_lowest - 1
        end;
        v_high := case
            when v_from = '*' then v_last
            when v_until = '' and v_item = v_base then v_low
            when v_until = '' then greatest(v_low, v_last)
            -- "sat-sun": a Sunday that ends a range is day 7.
            when v_until = 'sun' and v_low > 0 then 7
            when v_until < 'a' then v_until::integer
            else array_position(v_names, v_until) + v_lowest - 1
        end;

        if (v_low between v_lowest and v_highest) is not true
            or (v_high between v_lowest and v_highest) is not true
        then
            perform _eram_raise_bad_field(field, v_item, schedule);
        elsif v_low > v_high then
            perform _eram_raise_bad_field(
                field, v_item, schedule, 'A range goes from the lesser to the greater.');
        elsif v_step not between 1 and v_last - v_lowest + 1 then
            perform _eram_raise_bad_field(
                field, v_item, schedule,
                format('A step here is 1 to %s.', v_last - v_lowest + 1));
        end if;

        v_mask := v_mask | rpad(
            repeat('0', v_low - v_lowest)
                || left(repeat(rpad('1', v_step, '0'), v_high - v_low + 1), v_high - v_low + 1),
            length(v_mask),
            '0')::bit varying;
    end loop;
    return v_mask;
end;
$$;

-- What a cron schedule means, as masks: the minutes of a day from 00:00, the days of a month from
-- the 1st, the months from January, the days of a week from Sunday. `is_either`: a day matches by
-- its number or by its weekday, else by both. `is_fixed`: it names times of the day, while one
-- whose minutes or hours begin with * follows time as it passes.
create or replace function _eram_parse_cron(
    schedule text,
    out times bit varying,
    out days bit varying,
    out months bit varying,
    out weekdays bit varying,
    out is_either boolean,
    out is_fixed boolean
)
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    v_schedule text := case schedule
        when '@hourly' then '0 * * * *'
        when '@daily' then '0 0 * * *'
        when '@midnight' then '0 0 * * *'
        when '@weekly' then '0 0 * * 0'
        when '@monthly' then '0 0 1 * *'
        when '@yearly' then '0 0 1 1 *'
        when '@annually' then '0 0 1 1 *'
        else schedule
    end;
    v_fields   text[] := string_to_array(v_schedule, ' ');
    v_minutes  bit varying := repeat('1', 60)::bit varying;
    v_hours    bit varying := repeat('1', 24)::bit varying;
begin
    days := repeat('1', 31)::bit varying;
    months := repeat('1', 12)::bit varying;
    weekdays := repeat('1', 8)::bit varying;
    -- Most fields of most schedules are a mere *.
    if v_fields[1] <> '*' then
        v_minutes := _eram_parse_cron_field(1, v_fields[1], schedule);
    end if;
    if v_fields[2] <> '*' then
        v_hours := _eram_parse_cron_field(2, v_fields[2], schedule);
    end if;
    if v_fields[3] <> '*' then
        days := _eram_parse_cron_field(3, v_fields[3], schedule);
    end if;
    if v_fields[4] <> '*' then
        months := _eram_parse_cron_field(4, v_fields[4], schedule);
    end if;
    if v_fields[5] <> '*' then
        weekdays := _eram_parse_cron_field(5, v_fields[5], schedule);
    end if;

    -- Each hour becomes its sixty minutes, by way of letters.
    times := replace(
        replace(translate(v_hours::text, '01', 'ab'), 'a', repeat('0', 60)),
        'b', v_minutes::text)::bit varying;
    weekdays := substring(weekdays from 1 for 7)
        | (get_bit(weekdays, 7)::text || '000000')::bit varying;
    is_either := not (v_fields[3] ^@ '*' or v_fields[5] ^@ '*');
    is_fixed := not (v_fields[1] ^@ '*' or v_fields[2] ^@ '*');
end;
$$;
