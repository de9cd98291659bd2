-- What administrators do with entries that are there.

create or replace function _eram_raise_no_schedule(name text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_name text := name;
begin
    raise exception using
        errcode = 'undefined_object',
        message = format(
            'schedule %s does not exist',
            coalesce(to_json(left(v_name, 255))::text, 'null')),
        hint = coalesce(
            format(
                'Did you mean "%s"?',
                _eram_nearest(
                    v_name,
                    (
                        select array_agg(known.name)
                        from (
                            select schedules.name
                            from eram_schedules as schedules
                            order by schedules.name
                            limit 1000
                        ) as known
                    ))),
            'eram_schedules lists what there is.');
end;
$$;

create or replace function _eram_lock_schedule(name text)
    returns eram_schedules
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_name  text := name;
    v_entry eram_schedules;
begin
    perform _eram_make_maintenance(may_wait => true);

    select schedules.* into v_entry
    from eram_schedules as schedules
    where schedules.name = v_name
    for update;

    if not found then
        perform _eram_raise_no_schedule(v_name);
    end if;
    return v_entry;
end;
$$;

create or replace function eram_unschedule(name text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_name       text := name;
    v_is_removed boolean;
begin
    perform _eram_make_maintenance(may_wait => true);

    delete from eram_schedules as schedules
    where schedules.name = v_name;
    v_is_removed := found;

    perform _eram_forget_commands(v_name);
    if v_name = any (array(select defaults.name from _eram_default_maintenance() as defaults)) then
        insert into eram_unscheduled as unscheduled (name)
        values (v_name)
        on conflict do nothing;
        v_is_removed := v_is_removed or found;
    end if;

    return v_is_removed;
end;
$$;

comment on function eram_unschedule is
    'Remove a schedule; the jobs that it has enqueued stay. eram''s own maintenance stays removed '
    'until eram_schedule_maintenance() brings it back, and what an application declares until its '
    'declaration changes. Returns whether there was one.';

create or replace function eram_pause_schedule(name text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_name  text           := name;
    v_entry eram_schedules := _eram_lock_schedule(name);
begin
    if v_entry.is_paused then
        return false;
    end if;

    update eram_schedules as schedules
    set
        is_paused = true,
        next_run_at = null
    where schedules.name = v_name;
    perform _eram_forget_commands(v_name);
    return true;
end;
$$;

comment on function eram_pause_schedule is
    'Suspend a schedule; its occurrences until it is resumed are not made up for. Returns false '
    'when it was paused already.';

create or replace function eram_resume_schedule(name text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_name  text           := name;
    v_entry eram_schedules := _eram_lock_schedule(name);
begin
    if not v_entry.is_paused then
        return false;
    end if;

    update eram_schedules as schedules
    set
        is_paused = false,
        next_run_at = _eram_next_run(
            v_entry.schedule,
            v_entry.timezone,
            date_trunc('second', clock_timestamp()))
    where schedules.name = v_name;
    return true;
end;
$$;

comment on function eram_resume_schedule is
    'Let a paused schedule go on with its next occurrence. Returns false when it was not paused.';

create or replace function eram_run_schedule(name text)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_name   text           := name;
    v_entry  eram_schedules := _eram_lock_schedule(name);
    v_result record;
begin
    if not _eram_may_start(v_entry) then
        raise exception using
            errcode = 'object_in_use',
            message = format(
                'schedule "%s" must not overlap, and its last run is unfinished',
                v_name),
            hint = 'Wait until it has ended, or cancel it.';
    end if;

    select * into v_result
    from _eram_carry_out(v_entry, array[clock_timestamp()]);

    update eram_schedules as schedules
    set
        last_run_at = clock_timestamp(),
        last_job_id = coalesce(v_result.job_id, schedules.last_job_id),
        last_error = v_result.problem,
        run_count = schedules.run_count + 1
    where schedules.name = v_name;
    return v_result.job_id;
end;
$$;

comment on function eram_run_schedule is
    'Carry out a schedule once, now, paused or not; its next time stays as it is. A job is '
    'enqueued and its id returned, maintenance is done at once, and a command is run by the next '
    'ticker that may run it.';
