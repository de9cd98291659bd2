-- Commands of schedules. The tick finds them due and records them as taken; they are run later, in
-- a transaction of their own, so that one that runs long, is cut off or ends its session delays and
-- breaks nothing else, and is not tried for ever. A command is taken once.

create or replace function _eram_schema()
    returns name
    language sql
    stable
    set search_path from current
as $$
    select schemas.nspname
    from pg_catalog.pg_class as relations
    join pg_catalog.pg_namespace as schemas on schemas.oid = relations.relnamespace
    where relations.oid = 'eram_schedules'::regclass;
$$;

-- What runs right now is left to end as it ends. SQL is locked by who runs it.
create or replace function _eram_forget_commands(schedule text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_schedule text := schedule;
begin
    delete from eram_schedule_runs as runs
    where runs.id in (
        select due.id
        from eram_schedule_runs as due
        where
            due.name = v_schedule
            and (due.taken_at is null or not due.is_top_level)
        order by due.id
        for update skip locked
    );
end;
$$;

create or replace function _eram_record_problem(schedule text, problem text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_schedule text := schedule;
begin
    update eram_schedules as schedules
    set last_error = left(concat_ws(E'\n', schedules.last_error, problem), 10000)
    where schedules.name = v_schedule;

    raise warning using
        errcode = '01000',
        message = format('schedule "%s" failed: %s', v_schedule, problem),
        hint = 'The table eram_schedules keeps the error.';
end;
$$;

create or replace function _eram_command_key(run_id bigint)
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select (run_id % 2147483647)::integer;
$$;

-- SQL shows by the lock of its transaction that it is being run, however long it takes; what runs
-- at top level by a lock of its session, and without one it is past its timeout by a minute, or
-- older than the server. What is locked is passed over: others' ticks do the same, each with
-- entries locked already.
create or replace function _eram_end_lost_commands()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_minute_ago timestamptz := clock_timestamp() - interval '1 minute';
    v_held       bigint[]    := _eram_held_keys('eram_schedule_runs'::regclass);
    v_run        eram_schedule_runs;
begin
    for v_run in
        select runs.*
        from eram_schedule_runs as runs
        where
            runs.taken_at < v_minute_ago
            and case
                when not runs.is_top_level then true
                when runs.begun_at is not null
                then runs.begun_at < v_minute_ago and _eram_command_key(runs.id) <> all (v_held)
                else runs.taken_at
                    < greatest(v_minute_ago - runs.timeout, pg_postmaster_start_time())
            end
        order by runs.id
        limit 10
        for update skip locked
    loop
        perform
        from eram_schedules as schedules
        where schedules.name = v_run.name
        for update skip locked;
        continue when not found
            and exists (select from eram_schedules as schedules where schedules.name = v_run.name);

        delete from eram_schedule_runs as runs
        where runs.id = v_run.id;
        perform _eram_record_problem(
            v_run.name,
            format(
                'what became of run %s, taken at %s, was not reported: its session ended, or its '
                'ticker did not run it',
                v_run.id, v_run.taken_at));
    end loop;
end;
$$;

-- With the path that the session started with, and in a function of its own, with which the local
-- settings of the command end.
create or replace function _eram_execute(command text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    perform set_config('search_path', settings.reset_val, true)
    from pg_catalog.pg_settings as settings
    where settings.name = 'search_path';

    execute command;
end;
$$;

create or replace function eram_run_command(run_id bigint)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_path     text  := current_setting('search_path');
    v_settings jsonb := _eram_settings();
    v_run      eram_schedule_runs;
    v_problem  text;
begin
    perform _eram_check_may_run_commands();

    -- That another session runs it is told by this lock. A lock of the row tells nothing: a tick
    -- that found it free in its snapshot holds one too, until it ends.
    if not pg_try_advisory_xact_lock(
        'eram_schedule_runs'::regclass::oid::integer,
        _eram_command_key(run_id))
    then
        return null;
    end if;

    select runs.* into v_run
    from eram_schedule_runs as runs
    where
        runs.id = run_id
        and not runs.is_top_level
    for update;

    if v_run.id is null then
        return null;
    end if;

    begin
        -- A command that ticks must not take another one.
        perform set_config('eram.is_running_command', 'on', true);
        perform _eram_execute(v_run.command);
        if current_setting('search_path') <> v_path then
            raise exception using
                errcode = 'invalid_transaction_state',
                message = 'a command must not set search_path for the session of its ticker',
                hint = 'Use SET LOCAL.';
        end if;

        perform _eram_leave_nothing_behind();
        perform _eram_restore_settings(v_settings);
    exception
        when others or assert_failure then
            v_problem := sqlerrm;
    end;
    perform set_config('eram.is_running_command', '', true);

    delete from eram_schedule_runs as runs
    where runs.id = v_run.id;
    if v_problem is not null then
        perform _eram_record_problem(v_run.name, v_problem);
    end if;
    return v_problem is null;
end;
$$;

comment on function eram_run_command is
    'Run an SQL command of a schedule that eram_tick() has handed out, with the rights of eram''s '
    'owner. Its effects and the record that it was run are one transaction. Returns whether it '
    'succeeded; the error is in eram_schedules. Null when the run is being run or is over.';

create or replace function eram_begin_command(run_id bigint)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_run eram_schedule_runs;
begin
    perform _eram_check_may_run_commands();

    update eram_schedule_runs as runs
    set begun_at = clock_timestamp()
    where
        runs.id = run_id
        and runs.taken_at is not null
    returning * into v_run;

    return v_run.id is not null
        and (
            not v_run.is_top_level
            or pg_try_advisory_lock(
                'eram_schedule_runs'::regclass::oid::integer,
                _eram_command_key(run_id))
        );
end;
$$;

comment on function eram_begin_command is
    'Say that this session, on a direct connection, is about to run a command that eram_tick() has '
    'handed out: when it ends before eram_finish_command() was called, that is noticed a minute '
    'after the beginning, instead of after the timeout. Returns false when the command must not be '
    'run any more.';

create or replace function eram_finish_command(run_id bigint, error text default null)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_run eram_schedule_runs;
begin
    perform _eram_check_may_run_commands();

    delete from eram_schedule_runs as runs
    where
        runs.id = run_id
        and runs.taken_at is not null
    returning * into v_run;

    if v_run.id is null then
        return false;
    elsif error is not null then
        perform _eram_record_problem(v_run.name, error);
    end if;
    return true;
end;
$$;

comment on function eram_finish_command is
    'Report that a command that eram_tick() has handed out was run, and its error if it failed. '
    'Returns false when that is known already.';
