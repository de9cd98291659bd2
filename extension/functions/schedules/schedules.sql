-- Declaring what recurs. An entry that is declared again keeps its phase, its history and whether
-- it is paused: every start of an application declares its entries again.

create or replace function _eram_check_missed(missed text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if missed not in ('skip', 'once', 'all') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown value for missed: %s', to_json(left(missed, 100))),
            hint = 'It is skip, once or all.';
    end if;
end;
$$;

create or replace function _eram_check_schedule_name(name text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    perform _eram_check_name('schedule', name, 255);
    if name like 'eram:%' then
        raise exception using
            errcode = 'reserved_name',
            message = format('schedule name "%s" is reserved', name),
            hint = 'Maintenance is changed by eram_schedule_maintenance().';
    end if;
end;
$$;

-- The one place where entries are written. All but schedule, time zone and missed is checked.
create or replace function _eram_put_schedule(entry eram_schedules)
    returns timestamptz
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_schedule    text := _eram_check_schedule(entry.schedule);
    v_timezone    text := _eram_check_timezone(coalesce(entry.timezone, 'UTC'));
    v_missed      text := coalesce(entry.missed, 'once');
    v_now         timestamptz := clock_timestamp();
    v_is_changed  boolean;
    v_next_run_at timestamptz;
begin
    perform _eram_check_missed(v_missed);

    -- Of maintenance, whose entry the caller has locked.
    v_is_changed := exists (
        select
        from eram_schedules as schedules
        where
            schedules.name = entry.name
            and schedules.options <> entry.options
    );

    insert into eram_schedules as schedules (
        name, action, schedule, timezone, job, command, options, timeout, missed, allows_overlap,
        declared_by, next_run_at, inserted_at)
    values (
        entry.name, entry.action, v_schedule, v_timezone, entry.job, entry.command, entry.options,
        entry.timeout, v_missed, coalesce(entry.allows_overlap, true), entry.declared_by,
        _eram_next_run(v_schedule, v_timezone, date_trunc('second', v_now)), v_now)
    on conflict (name) do update
    set
        action = excluded.action,
        schedule = excluded.schedule,
        timezone = excluded.timezone,
        job = excluded.job,
        command = excluded.command,
        options = excluded.options,
        timeout = excluded.timeout,
        missed = excluded.missed,
        allows_overlap = excluded.allows_overlap,
        -- What an administrator changes stays declared, unless it is something else then.
        declared_by = case
            when excluded.command is null
            then coalesce(excluded.declared_by, schedules.declared_by)
        end,
        next_run_at = case
            when schedules.is_paused then null
            when schedules.schedule = excluded.schedule
                and (
                    schedules.timezone = excluded.timezone
                    or _eram_schedule_interval(excluded.schedule) is not null
                )
            -- Never later than from now: a clock that ran ahead must not stop it for ever.
            then least(schedules.next_run_at, excluded.next_run_at)
            else excluded.next_run_at
        end
    -- One that someone else has made meanwhile is not redefined by a declaration.
    where
        excluded.declared_by is null
        or excluded.declared_by = schedules.declared_by
        or excluded.options is not null
    returning schedules.next_run_at into v_next_run_at;

    if not found then
        return null;
    end if;

    -- What is due already and not begun is run as it is declared now, or not at all. A job leaves
    -- no command, whatever was seen here before a wait for another who declares the same.
    if v_is_changed or entry.action = 'job' then
        perform _eram_forget_commands(entry.name);
    elsif entry.command is not null then
        update eram_schedule_runs as runs
        set
            command = entry.command,
            is_top_level = entry.action = 'top_level',
            timeout = entry.timeout
        where
            runs.name = entry.name
            and runs.taken_at is null;
    end if;
    return v_next_run_at;
end;
$$;

create or replace function _eram_schedule_option_keys()
    returns text[]
    language sql
    immutable
    set search_path from current
as $$
    select array[
        'queue', 'priority', 'max_attempts', 'delay', 'tags', 'meta', 'backoff', 'timeout',
        'unique', 'overlap'];
$$;

-- A job's options on their way into its document; one key is the entry's own.
create or replace function _eram_check_schedule_options(options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    perform _eram_check_object('options', options);

    perform _eram_check_keys('options', options, _eram_schedule_option_keys());
    if jsonb_typeof(options -> 'overlap') not in ('boolean', 'null') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'overlap must be true or false, got %s',
                left(options ->> 'overlap', 100)),
            hint = 'With false no job is enqueued while the last one is unfinished.';
    end if;
end;
$$;

-- A name for an entry without one, out of what tells it from others. It does not change as long as
-- the entry does not.
create or replace function _eram_schedule_name(entry eram_schedules)
    returns text
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_handler  text := entry.job ->> 'handler';
    v_schedule text := _eram_check_schedule(entry.schedule);
    v_timezone text := _eram_check_timezone(coalesce(entry.timezone, 'UTC'));
begin
    return concat_ws(
        ' ',
        left(v_handler, 100),
        left(v_schedule, 100),
        case when v_timezone not in ('UTC', 'Etc/UTC') then v_timezone end,
        case
            when entry.job - 'handler' <> '{"args": {}}'
                or length(v_handler) > 100
                or length(v_schedule) > 100
            then left(md5(entry.job::text || v_schedule), 8)
        end);
end;
$$;

create or replace function _eram_job_entry(
    name     text,
    schedule text,
    handler  text,
    args     jsonb,
    timezone text,
    missed   text,
    options  jsonb
)
    returns eram_schedules
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_options jsonb := coalesce(options, '{}');
    v_entry   eram_schedules;
begin
    perform _eram_check_schedule_options(v_options);

    v_entry.action := 'job';
    v_entry.schedule := schedule;
    v_entry.timezone := timezone;
    v_entry.missed := missed;
    v_entry.allows_overlap := nullif(v_options -> 'overlap', 'null')::boolean;
    select coalesce(jsonb_object_agg(given.key, given.value), '{}') into v_entry.job
    from jsonb_each(v_options - 'overlap') as given
    where given.value <> 'null';
    v_entry.job := v_entry.job
        || jsonb_build_object('handler', handler, 'args', coalesce(args, '{}'));
    perform _eram_read_spec(v_entry.job);

    v_entry.name := coalesce(name, _eram_schedule_name(v_entry));
    perform _eram_check_schedule_name(v_entry.name);
    return v_entry;
end;
$$;

create or replace function eram_schedule(
    name     text,
    schedule text,
    handler  text,
    args     jsonb default null,
    timezone text  default null,
    missed   text  default null,
    options  jsonb default null
)
    returns timestamptz
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
begin
    return _eram_put_schedule(
        _eram_job_entry(name, schedule, handler, args, timezone, missed, options));
end;
$$;

comment on function eram_schedule is
    'Enqueue a job again and again. The schedule is five cron fields, @daily and its like, or an '
    'interval; timezone (default UTC) is for the former. missed says what becomes of occurrences '
    'that nobody was there for: skip, once (the default: one job for all of them), all (the '
    'latest hundred). options are those of the job (queue, priority, ...), and overlap: with '
    'false no job is enqueued while the last one is unfinished. A null name makes one of what the '
    'entry is; a name that is there already is redefined. Returns the next time.';

create or replace function eram_schedule_sql(
    name         text,
    schedule     text,
    command      text,
    timezone     text     default null,
    missed       text     default null,
    timeout      interval default null,
    is_top_level boolean  default null
)
    returns timestamptz
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_entry eram_schedules;
begin
    perform _eram_check_schedule_name(name);
    if command is null or btrim(command, E' \t\r\n;') = '' then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'command must not be null or empty',
            hint = 'Pass an SQL statement.';
    end if;

    v_entry.name := name;
    v_entry.action := case when is_top_level then 'top_level' else 'sql' end;
    v_entry.schedule := schedule;
    v_entry.timezone := timezone;
    v_entry.missed := missed;
    v_entry.command := command;
    v_entry.timeout := coalesce(timeout, interval '1 hour');
    perform _eram_check_timeout(v_entry.timeout);

    return _eram_put_schedule(v_entry);
end;
$$;

comment on function eram_schedule_sql is
    'Run an SQL command again and again, with the rights of eram''s owner, whoever ticks. It does '
    'not overlap with itself, and is given up after timeout (default 1 hour). With is_top_level it '
    'is run outside of any transaction block, as VACUUM and CREATE INDEX CONCURRENTLY must be, by '
    'a worker that connects as the owner. schedule, timezone and missed are as in '
    'eram_schedule(). Returns the next time.';
