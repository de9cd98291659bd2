-- How long jobs are kept after they ended, by state. A max_age is a number of seconds, an interval
-- as a string or "infinity", or an object of these by state. That of the queue comes first, then
-- that of the schedule "eram:prune", then the default.

create or replace function _eram_default_max_age()
    returns jsonb
    language sql
    immutable
    set search_path from current
as $$
    select '{"completed": "1 day", "cancelled": "1 day", "discarded": "7 days"}'::jsonb;
$$;

-- Null when it says nothing of the state.
create or replace function _eram_max_age_of(max_age jsonb, state text)
    returns jsonb
    language sql
    immutable
    set search_path from current
as $$
    select nullif(
        case jsonb_typeof(max_age) when 'object' then max_age -> state else max_age end,
        'null');
$$;

-- What a queue stores: an object that has only the states that it says something of.
create or replace function _eram_max_age_by_state(max_age jsonb)
    returns jsonb
    language sql
    immutable
    set search_path from current
as $$
    select jsonb_strip_nulls(
        case jsonb_typeof(max_age)
            when 'object' then max_age
            else jsonb_build_object(
                'completed', max_age,
                'cancelled', max_age,
                'discarded', max_age)
        end);
$$;

-- What ended until then has been kept long enough; -infinity when everything is kept, null when
-- max_age says nothing of the state.
create or replace function _eram_cutoff(max_age jsonb, state text, now timestamptz)
    returns timestamptz
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_max_age jsonb := _eram_max_age_of(max_age, state);
begin
    if v_max_age is null then
        return null;
    elsif lower(v_max_age #>> '{}') = 'infinity' then
        return '-infinity';
    end if;
    return now - _eram_read_interval('max_age', v_max_age);
end;
$$;

create or replace function _eram_check_max_age(max_age jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_states constant text[] := '{completed,cancelled,discarded}';
    v_ages   jsonb           := max_age;
    v_age    record;
begin
    if jsonb_typeof(v_ages) <> 'object' then
        v_ages := jsonb_build_object('', v_ages);
    end if;

    for v_age in
        select
            ages.key as state,
            ages.value as max_age,
            format('max_age%s', ' of ' || nullif(left(ages.key, 100), '')) as what
        from jsonb_each(v_ages) as ages
    loop
        if v_age.state <> all (c_states) and (v_age.state <> '' or v_ages = max_age) then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('unknown state "%s" in max_age', left(v_age.state, 100)),
                hint = format('Did you mean "%s"?', _eram_nearest(v_age.state, c_states));
        elsif jsonb_typeof(v_age.max_age) <> 'null'
            and lower(v_age.max_age #>> '{}') <> 'infinity'
        then
            perform _eram_check_delay(
                v_age.what,
                _eram_read_interval(v_age.what, v_age.max_age));
        end if;
    end loop;
end;
$$;

create or replace function _eram_check_prune_options(options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_keys constant text[] := '{limit,max_age}';
begin
    if options is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'options must not be null',
            hint = 'Pass {"limit": 10000, "max_age": "1 day"}, or {} for the defaults.';
    end if;
    perform _eram_check_object('options', options);

    perform _eram_check_keys('options of prune', options, c_keys);


    perform _eram_check_prune_limit(
        'limit',
        _eram_read_integer('limit', coalesce(options -> 'limit', 'null')));
    perform _eram_check_max_age(options -> 'max_age');
end;
$$;

create or replace function _eram_check_prune_limit(what text, value integer)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if value < 1 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('%s must be at least 1, got %s', what, value),
            hint = 'It is the number of jobs that are removed at a time, at most.';
    end if;
end;
$$;

create or replace function eram_retention(queue text default null)
    returns table (state text, max_age text)
    language plpgsql
    stable
    security definer
    set search_path from current
as $$
declare
    v_queue   text := queue;
    v_own     jsonb;
    v_general jsonb;
    v_is_idle boolean;
begin
    if v_queue is not null then
        perform _eram_check_queue(v_queue);
    end if;

    select queues.max_age into v_own
    from eram_queues as queues
    where queues.name = v_queue;

    -- The first tick makes the schedule, unless an administrator has removed it.
    select
        schedules.options -> 'max_age',
        schedules.is_paused
    into v_general, v_is_idle
    from eram_schedules as schedules
    where schedules.name = 'eram:prune';

    v_is_idle := coalesce(
        v_is_idle,
        exists (
            select
            from eram_unscheduled as unscheduled
            where unscheduled.name = 'eram:prune'
        ));

    return query
    select
        states.name,
        case
            when v_is_idle and not (
                states.name = 'completed'
                and _eram_cutoff(v_own, states.name, now()) is not distinct from now())
            then 'infinity'
            when jsonb_typeof(ages.max_age) = 'number'
            then format('%s second%s', ages.max_age, case when ages.max_age <> '1' then 's' end)
            else ages.max_age #>> '{}'
        end
    from unnest('{completed,cancelled,discarded}'::text[]) with ordinality as states (name, number)
    cross join lateral (
        select coalesce(
            _eram_max_age_of(v_own, states.name),
            _eram_max_age_of(v_general, states.name),
            _eram_max_age_of(_eram_default_max_age(), states.name))
    ) as ages (max_age)
    order by states.number;
end;
$$;

comment on function eram_retention is
    'How long jobs are kept after they ended, in general or in a queue: one row each for '
    'completed, cancelled and discarded ones. "infinity" is for ever, also because the schedule '
    'eram:prune is paused or was removed.';
