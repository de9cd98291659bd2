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
            -- One that was missed at night would come in the morning.
            (
                'reindexer',
                '@midnight',
                'skip',
                '{"indexes": ["eram_jobs_args_index", "eram_jobs_meta_index"], "timeout": 15}'
            )
    ) as defaults (action, schedule, missed, options);
$$;

-- What is missing is made, unless an administrator has removed it, or is making it himself.
create or replace function _eram_make_maintenance()
    returns void
    language sql
    volatile
    set search_path from current
as $$
    insert into eram_schedules (
        name, action, schedule, timezone, options, missed, allows_overlap, next_run_at, inserted_at)
    select
        defaults.name,
        defaults.action,
        defaults.schedule,
        defaults.timezone,
        defaults.options,
        defaults.missed,
        defaults.allows_overlap,
        _eram_next_run(
            defaults.schedule,
            defaults.timezone,
            date_trunc('second', clock_timestamp())),
        defaults.inserted_at
    from _eram_default_maintenance() as defaults
    where
        not exists (
            select from eram_schedules as schedules where schedules.name = defaults.name
        )
        and not exists (
            select from eram_unscheduled as unscheduled where unscheduled.name = defaults.name
        )
    on conflict do nothing;
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
    c_tasks constant text[]     := '{prune,lifeline,reindexer}';
    v_entry       eram_schedules;
    v_next_run_at timestamptz;
begin
    if task is null or task <> all (c_tasks) then
        raise exception using
            errcode = 'undefined_object',
            message = format(
                'there is no maintenance task %s',
                coalesce(to_json(left(task, 100))::text, 'null')),
            hint = format('The tasks are %s.', array_to_string(c_tasks, ', '));
    end if;

    select schedules.* into v_entry
    from eram_schedules as schedules
    where schedules.name = 'eram:' || task;

    if not found then
        select defaults.* into v_entry
        from _eram_default_maintenance() as defaults
        where defaults.action = task;
    end if;

    perform _eram_check_object('options', coalesce(options, '{}'));
    v_entry.schedule := coalesce(schedule, v_entry.schedule);
    v_entry.timezone := coalesce(timezone, v_entry.timezone);
    v_entry.options := v_entry.options || jsonb_strip_nulls(coalesce(options, '{}'));
    case task
        when 'prune' then perform _eram_check_prune_options(v_entry.options);
        when 'lifeline' then perform _eram_check_lifeline_options(v_entry.options);
        when 'reindexer' then perform _eram_check_reindexer_options(v_entry.options);
    end case;

    delete from eram_unscheduled as unscheduled
    where unscheduled.name = v_entry.name;
    v_next_run_at := _eram_put_schedule(v_entry);
    if task = 'prune' then
        perform _eram_note_removals();
    end if;
    return v_next_run_at;
end;
$$;

comment on function eram_schedule_maintenance is
    'Change one of eram''s own tasks, or bring it back: prune (options limit, max_age), lifeline '
    '(rescue_after) or reindexer (indexes, timeout). Null, and a key left out, leave things as '
    'they are. Returns the next time.';
