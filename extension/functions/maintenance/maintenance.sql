-- What eram does on its own account. Its entries are like any other, but for their names.

create or replace function _eram_default_maintenance()
    returns setof eram_schedules
    language sql
    stable
    set search_path from current
as $$
    select
        'eram:' || defaults.action,
        defaults.action,
        defaults.schedule,
        'Etc/UTC',
        null::jsonb,
        null::text,
        defaults.options,
        null::interval,
        defaults.missed,
        true,
        false,
        null::text,
        null::timestamptz,
        null::timestamptz,
        null::bigint,
        null::text,
        0::bigint,
        clock_timestamp()
    from (
        values
            (
                'prune',
                '30 seconds',
                'once',
                jsonb_build_object(
                    'limit', _eram_default_prune_limit(),
                    'max_age', _eram_default_max_age())
            ),
            ('lifeline', '60 seconds', 'once', '{"rescue_after": "1 hour"}'),
            (
                'recorder',
                '60 seconds',
                'once',
                jsonb_build_object('sample', _eram_default_sample())
            ),
            -- One that was missed at night would come in the morning.
            (
                'reindexer',
                '@midnight',
                'skip',
                '{"indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"], "timeout": 15}'
            )
    ) as defaults (action, schedule, missed, options);
$$;

create or replace function _eram_missing_maintenance()
    returns setof eram_schedules
    language sql
    stable
    set search_path from current
as $$
    select defaults.*
    from _eram_default_maintenance() as defaults
    where
        not exists (
            select from eram_schedules as schedules where schedules.name = defaults.name
        )
        and not exists (
            select from eram_unscheduled as unscheduled where unscheduled.name = defaults.name
        );
$$;

-- What is missing is made, unless an administrator has removed it. Administrators do so under a
-- lock, for whose end no tick waits: theirs may be a long transaction.
create or replace function _eram_make_maintenance(may_wait boolean)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_class integer := 'eram_unscheduled'::regclass::oid::integer;
begin
    if not exists (select from _eram_missing_maintenance()) then
        return;
    elsif may_wait then
        perform pg_advisory_xact_lock(v_class, 0);
    elsif not pg_try_advisory_xact_lock(v_class, 0) then
        return;
    end if;

    -- Looked for again: what the lock was waited for is seen by now.
    insert into eram_schedules (
        name, action, schedule, timezone, options, missed, allows_overlap, next_run_at, inserted_at)
    select
        missing.name,
        missing.action,
        missing.schedule,
        missing.timezone,
        missing.options,
        missing.missed,
        missing.allows_overlap,
        _eram_next_run(
            missing.schedule,
            missing.timezone,
            date_trunc('second', clock_timestamp())),
        missing.inserted_at
    from _eram_missing_maintenance() as missing
    on conflict do nothing;
end;
$$;

create or replace function _eram_check_task(task text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_tasks constant text[] := '{prune,lifeline,recorder,reindexer}';
begin
    if task is null or task <> all (c_tasks) then
        raise exception using
            errcode = 'undefined_object',
            message = format(
                'there is no maintenance task %s',
                coalesce(to_json(left(task, 100))::text, 'null')),
            hint = format('The tasks are %s.', array_to_string(c_tasks, ', '));
    end if;
end;
$$;

create or replace function _eram_check_maintenance_options(task text, options jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    case task
        when 'prune' then perform _eram_check_prune_options(options);
        when 'lifeline' then perform _eram_check_lifeline_options(options);
        when 'recorder' then perform _eram_check_recorder_options(options);
        when 'reindexer' then perform _eram_check_reindexer_options(options);
    end case;
end;
$$;

create or replace function eram_schedule_maintenance(
    task     text,
    schedule text  default null,
    options  jsonb default null,
    timezone text  default null
)
    returns timestamptz
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_entry       eram_schedules;
    v_next_run_at timestamptz;
begin
    perform _eram_check_task(task);

    -- What was removed is made anew, and locked before it is read: another may bring it back at the
    -- same time, or remove it.
    loop
        delete from eram_unscheduled as unscheduled
        where unscheduled.name = 'eram:' || task;
        perform _eram_make_maintenance(may_wait => true);
        select schedules.* into v_entry
        from eram_schedules as schedules
        where schedules.name = 'eram:' || task
        for update;
        exit when found;
    end loop;

    perform _eram_check_object('options', coalesce(options, '{}'));
    v_entry.schedule := coalesce(schedule, v_entry.schedule);
    v_entry.timezone := coalesce(timezone, v_entry.timezone);
    v_entry.options := v_entry.options || jsonb_strip_nulls(coalesce(options, '{}'));
    perform _eram_check_maintenance_options(task, v_entry.options);

    v_next_run_at := _eram_put_schedule(v_entry);
    if task = 'prune' then
        perform _eram_note_removals(may_wait => true);
    end if;
    return v_next_run_at;
end;
$$;

comment on function eram_schedule_maintenance is
    'Change one of eram''s own tasks, or bring it back: prune (options limit, max_age), lifeline '
    '(rescue_after), recorder (sample) or reindexer (indexes, timeout). Null, and a key left out, '
    'leave things as they are. Returns the next time.';
