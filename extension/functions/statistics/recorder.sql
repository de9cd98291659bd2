-- The recorder as a task of the scheduler, and as part of the prune.

create or replace function _eram_default_sample()
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select 10000;
$$;

create or replace function _eram_read_sample(options jsonb)
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select coalesce(
        _eram_read_integer('sample', coalesce(options -> 'sample', 'null')),
        _eram_default_sample());
$$;

create or replace function _eram_check_recorder_options(options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_keys constant text[] := '{sample}';
    v_sample        integer;
begin
    perform _eram_check_object('options', options);

    perform _eram_check_keys('options of recorder', options, c_keys);

    v_sample := _eram_read_sample(options);
    if v_sample < 0 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('sample must not be negative, got %s', v_sample),
            hint = 'It is the number of jobs that are looked up for their times at each recording.';
    end if;
end;
$$;

-- How many wait and run is noted as of now, for the minute that it is.
create or replace function _eram_record_places()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_minute timestamptz := date_trunc('minute', clock_timestamp(), 'UTC');
begin
    if not pg_try_advisory_xact_lock('eram_recordings'::regclass::oid::integer, 0) then
        return;
    end if;

    with counts as materialized (
        select
            counts.queue,
            counts.waiting_count,
            counts.running_count
        from eram_count_jobs() as counts
    ),
    idle as (
        update eram_minutes as minutes
        set
            waiting_count = 0,
            running_count = 0
        where
            minutes.minute = v_minute
            and not exists (select from counts where counts.queue = minutes.queue)
    )
    insert into eram_minutes as minutes (
        queue, minute, completed_count, failed_count, discarded_count, cancelled_count,
        waiting_count, running_count)
    select
        counts.queue,
        v_minute,
        0,
        0,
        0,
        0,
        counts.waiting_count,
        counts.running_count
    from counts
    left join eram_minutes as present
        on present.queue = counts.queue and present.minute = v_minute
    where present.queue is not null or counts.waiting_count > 0 or counts.running_count > 0
    on conflict on constraint eram_minutes_pkey do update
    set
        waiting_count = excluded.waiting_count,
        running_count = excluded.running_count;
end;
$$;

-- What the schedule "eram:recorder" does.
create or replace function _eram_run_recorder(options jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    perform _eram_record(_eram_read_sample(options));
    perform _eram_record_places();
end;
$$;

-- The prune takes away what is counted by, so it counts first; unless nobody wants it counted.
-- Returns what is counted, for the prune to leave the rest alone; null when that may take too long,
-- because nobody has been able to count for a while.
create or replace function _eram_record_before_prune()
    returns pg_snapshot
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_longest constant interval := interval '5 minutes';
    v_options jsonb;
begin
    select schedules.options into v_options
    from eram_schedules as schedules
    where schedules.name = 'eram:recorder' and not schedules.is_paused;

    if not found then
        return null;
    end if;
    perform _eram_record(_eram_read_sample(v_options));
    return (
        select recordings.snapshot
        from eram_recordings as recordings
        where
            recordings.completions_oid = 'eram_completions'::regclass
            and recordings.recorded_at > clock_timestamp() - c_longest
    );
exception
    -- What is not counted is a small loss; what is not pruned, in time a great one.
    when others then
        raise warning using
            errcode = '01000',
            message = format('what was completed could not be recorded: %s', sqlerrm),
            hint = 'The next recording tries again, for what is still there then.';
        return null;
end;
$$;
