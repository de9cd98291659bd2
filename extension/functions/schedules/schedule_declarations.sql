-- Reading what an application declares of schedules, and who may declare it.

-- An entry as it is declared, with nothing left out: equal ones are the same declaration.
create or replace function _eram_declaration(entry eram_schedules)
    returns jsonb
    language sql
    stable
    set search_path from current
as $$
    select jsonb_build_object('schedule', entry.schedule, 'timezone', entry.timezone)
        || case entry.action
            when 'job' then entry.job || jsonb_build_object(
                'missed', entry.missed,
                'overlap', entry.allows_overlap)
            else jsonb_build_object('maintenance', entry.action, 'options', entry.options)
        end;
$$;

create or replace function _eram_maintenance_entry(
    task     text,
    schedule text,
    options  jsonb,
    timezone text
)
    returns eram_schedules
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_entry eram_schedules;
begin
    perform _eram_check_task(task);
    perform _eram_check_object('options', coalesce(options, '{}'));

    select defaults.* into v_entry
    from _eram_default_maintenance() as defaults
    where defaults.action = task;

    v_entry.schedule := coalesce(schedule, v_entry.schedule);
    v_entry.timezone := coalesce(timezone, v_entry.timezone);
    v_entry.options := v_entry.options || jsonb_strip_nulls(coalesce(options, '{}'));
    perform _eram_check_maintenance_options(task, v_entry.options);
    return v_entry;
end;
$$;

create or replace function _eram_read_declared(application text, schedule jsonb)
    returns eram_schedules
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_task_keys constant text[] := '{maintenance,schedule,timezone,options}';
    c_own_keys  constant text[] := '{name,schedule,handler,args,timezone,missed,maintenance}';
    v_given     jsonb           := schedule;
    v_entry     eram_schedules;
begin
    if jsonb_typeof(v_given) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('a schedule must be a JSON object, got %s', jsonb_typeof(v_given)),
            hint = 'Pass a document such as {"schedule": "@daily", "handler": "app.jobs:email"}.';
    end if;

    if coalesce(v_given -> 'maintenance', 'null') <> 'null' then
        perform _eram_check_keys('maintenance', v_given, c_task_keys);
        v_entry := _eram_maintenance_entry(
            _eram_read_text('maintenance', v_given -> 'maintenance'),
            _eram_read_text('schedule', v_given -> 'schedule'),
            nullif(v_given -> 'options', 'null'),
            _eram_read_text('timezone', v_given -> 'timezone'));
    else
        perform _eram_check_keys('schedule', v_given, c_own_keys || _eram_schedule_option_keys());
        v_entry := _eram_job_entry(
            _eram_read_text('name', v_given -> 'name'),
            _eram_read_text('schedule', v_given -> 'schedule'),
            _eram_read_text('handler', v_given -> 'handler'),
            nullif(v_given -> 'args', 'null'),
            _eram_read_text('timezone', v_given -> 'timezone'),
            _eram_read_text('missed', v_given -> 'missed'),
            v_given - c_own_keys);
        v_entry.missed := coalesce(v_entry.missed, 'once');
        perform _eram_check_missed(v_entry.missed);
        v_entry.allows_overlap := coalesce(v_entry.allows_overlap, true);
    end if;

    v_entry.schedule := _eram_check_schedule(v_entry.schedule);
    v_entry.timezone := _eram_check_timezone(coalesce(v_entry.timezone, 'UTC'));
    v_entry.declared_by := application;
    return v_entry;
end;
$$;

create or replace function _eram_read_declarations(application text, schedules jsonb)
    returns eram_schedules[]
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_given   jsonb            := schedules;
    v_entries eram_schedules[] := '{}';
    v_names   text[]           := '{}';
    v_number  bigint           := 0;
    v_one     jsonb;
    v_entry   eram_schedules;
    v_twin    record;
    v_hint    text;
begin
    if v_given is null or jsonb_typeof(v_given) <> 'array' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'schedules must be a JSON array of schedules, got %s',
                coalesce(jsonb_typeof(v_given), 'null')),
            hint = 'Pass [{"schedule": "@daily", "handler": "app.jobs:email"}, ...].';
    end if;

    -- A block that only reads. It is here to say which schedule is at fault.
    begin
        for v_one in select value from jsonb_array_elements(v_given) loop
            v_number := v_number + 1;
            v_entry := _eram_read_declared(application, v_one);
            v_entries := array_append(v_entries, v_entry);
            v_names := array_append(v_names, v_entry.name);
        end loop;
    exception
        when data_exception or feature_not_supported or name_too_long or invalid_name
            or reserved_name or undefined_object
        then
            get stacked diagnostics v_hint = pg_exception_hint;
            raise exception using
                errcode = sqlstate,
                message = sqlerrm,
                detail = format(
                    'The mistake is in schedule %s of %s%s.',
                    v_number,
                    jsonb_array_length(v_given),
                    case
                        when jsonb_typeof(v_one) = 'object'
                        then ', "' || left(
                            coalesce(v_one ->> 'name', v_one ->> 'handler'), 255) || '"'
                    end),
                hint = v_hint;
    end;

    select
        min(named.number) as one,
        max(named.number) as other,
        named.name
    into v_twin
    from unnest(v_names) with ordinality as named (name, number)
    group by named.name
    having count(*) > 1
    limit 1;
    if found then
        raise exception using
            errcode = 'duplicate_object',
            message = format(
                'schedules %s and %s are both named "%s"',
                v_twin.one, v_twin.other, v_twin.name),
            hint = 'Declare it once, or give one of them another name.';
    end if;
    return v_entries;
end;
$$;

-- A declaration gives nobody more than he may do without it. Returns the entry; who may not enqueue
-- to every queue has its job kept in the one that it is for now, whatever its handler says later.
create or replace function _eram_permit_declaration(entry eram_schedules)
    returns eram_schedules
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_role  name           := _eram_invoker();
    v_entry eram_schedules := entry;
    v_spec  eram_job_specs;
begin
    if v_entry.action <> 'job' then
        if not has_function_privilege(v_role, 'eram_schedule_maintenance'::regproc, 'execute') then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format('permission denied for schedule "%s"', v_entry.name),
                hint = 'Ask for eram_grant(role, ''admin''), or leave it to an administrator.';
        end if;
    elsif not has_function_privilege(v_role, 'eram_schedule'::regproc, 'execute') then
        v_spec := _eram_read_spec(v_entry.job);
        if not has_function_privilege(v_role, 'eram_enqueue_jobs'::regproc, 'execute') then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format('permission denied for queue "%s"', v_spec.queue),
                hint = 'Ask for eram_grant(role, ''enqueue'').';
        elsif exists (select from eram_queue_grants as restricted) then
            perform _eram_check_may_enqueue(array[v_spec]);
            if not _eram_may_enqueue('') then
                v_entry.job := v_entry.job || jsonb_build_object('queue', v_spec.queue);
            end if;
        end if;
    end if;
    return v_entry;
end;
$$;
