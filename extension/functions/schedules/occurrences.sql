-- What is done about an entry of the scheduler table when it is due. The caller has locked it.

create or replace function _eram_is_unfinished(job bigint)
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select
        exists (select from eram_queued_jobs as queued where queued.job_id = job)
        or exists (select from eram_running_jobs as running where running.job_id = job);
$$;

-- Commands never overlap with themselves; jobs may, unless the entry forbids it.
create or replace function _eram_may_start(entry eram_schedules)
    returns boolean
    language plpgsql
    stable
    set search_path from current
as $$
begin
    return case
        when entry.action = 'job' then
            entry.allows_overlap
            or not _eram_is_unfinished(entry.last_job_id)
        when entry.action in ('prune', 'lifeline', 'recorder') then true
        else not exists (select from eram_schedule_runs as runs where runs.name = entry.name)
    end;
end;
$$;

-- The job of an entry, with what tells which entry it came from and for when.
create or replace function _eram_scheduled_job(entry eram_schedules, scheduled_for timestamptz)
    returns jsonb
    language sql
    stable
    set search_path from current
as $$
    select entry.job || jsonb_build_object(
        'meta',
        coalesce(entry.job -> 'meta', '{}') || jsonb_build_object(
            'cron', true,
            'schedule', entry.name,
            'scheduled_for', to_char(
                scheduled_for at time zone 'UTC',
                'YYYY-MM-DD"T"HH24:MI:SS"Z"')));
$$;

-- A unique key may be in the hands of a transaction that stays open: the entry is due again then,
-- for a tick waits for nobody.
create or replace function _eram_enqueue_occurrence(entry eram_schedules, occurrence timestamptz)
    returns bigint
    language plpgsql
    volatile
    set search_path from current
    set lock_timeout to '10ms'
as $$
declare
    v_inserted record;
begin
    v_inserted := _eram_insert_job(_eram_read_spec(_eram_scheduled_job(entry, occurrence)));
    return v_inserted.id;
end;
$$;

create or replace function _eram_carry_out(
    entry          eram_schedules,
    occurrences    timestamptz[],
    out job_id     bigint,
    out problem    text,
    out is_partial boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_occurrence timestamptz;
begin
    is_partial := false;
    case entry.action
        when 'job' then
            foreach v_occurrence in array occurrences loop
                if entry.allows_overlap
                    or not _eram_is_unfinished(coalesce(job_id, entry.last_job_id))
                then
                    job_id := _eram_enqueue_occurrence(entry, v_occurrence);
                end if;
            end loop;
        when 'prune' then
            is_partial := _eram_run_prune(entry.options);
        when 'lifeline' then
            perform _eram_run_lifeline(entry.options);
        when 'recorder' then
            perform _eram_run_recorder(entry.options);
        when 'reindexer' then
            with planned as materialized (
                select *
                from eram_reindex_plan() with ordinality
            ),
            started as (
                insert into eram_schedule_runs (name, scheduled_for, command, is_top_level, timeout)
                select
                    entry.name,
                    occurrences[cardinality(occurrences)],
                    planned.command,
                    true,
                    _eram_read_interval('timeout', coalesce(entry.options -> 'timeout', '15'))
                from planned
                where planned.command is not null
                order by planned.ordinality
            )
            select string_agg(planned.problem, E'\n' order by planned.ordinality) into problem
            from planned;
        else
            insert into eram_schedule_runs (name, scheduled_for, command, is_top_level, timeout)
            select
                entry.name,
                due.occurrence,
                entry.command,
                entry.action = 'top_level',
                entry.timeout
            from unnest(occurrences) as due (occurrence)
            order by due.occurrence;
    end case;
end;
$$;

-- Carries out an entry that is due, and advances it, unless it is to be tried again because the
-- error will pass.
create or replace function _eram_run_entry(entry eram_schedules, now timestamptz)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_most_missed constant integer := 100;
    v_start       timestamptz := clock_timestamp();
    v_next_run_at timestamptz := now + interval '1 minute';
    v_occurrences timestamptz[] := array[entry.next_run_at];
    v_latest      timestamptz;
    v_is_run      boolean := true;
    v_is_over     boolean := true;
    v_result      record;
    v_job_id      bigint;
    v_problem     text;
begin
    -- One that fails stops no other.
    begin
        v_next_run_at := _eram_next_run(entry.schedule, entry.timezone, entry.next_run_at);
        if v_next_run_at <= now then
            v_occurrences := _eram_missed_runs(
                entry.schedule,
                entry.timezone,
                entry.next_run_at,
                now,
                case entry.missed when 'all' then c_most_missed else 1 end);
        end if;
        v_latest := v_occurrences[cardinality(v_occurrences)];
        v_next_run_at := coalesce(
            _eram_next_run(entry.schedule, entry.timezone, v_latest),
            _eram_next_run(entry.schedule, entry.timezone, now));

        v_is_run := _eram_may_start(entry)
            and (entry.missed <> 'skip' or v_latest > now - interval '1 minute');
        if v_is_run then
            select * into v_result
            from _eram_carry_out(entry, v_occurrences);
            v_job_id := v_result.job_id;
            v_problem := v_result.problem;

            -- There is more to do, and a fifth of the time may go into it.
            if v_result.is_partial then
                v_next_run_at := least(
                    v_next_run_at,
                    clock_timestamp() + 4 * (clock_timestamp() - v_start));
            end if;
        end if;
    exception
        -- The occurrence is not lost to what will pass: deadlocks, locks, exhausted resources.
        when transaction_rollback or lock_not_available or insufficient_resources then
            v_is_over := false;
            v_is_run := false;
            v_problem := sqlerrm;
        when others then
            v_problem := sqlerrm;
    end;

    update eram_schedules as schedules
    set
        next_run_at = case when v_is_over then v_next_run_at else schedules.next_run_at end,
        last_run_at = case when v_is_run then v_start else schedules.last_run_at end,
        last_job_id = coalesce(v_job_id, schedules.last_job_id),
        last_error = case when not v_is_run and v_is_over then schedules.last_error end,
        run_count = schedules.run_count + v_is_run::integer
    where schedules.name = entry.name;

    if v_problem is not null then
        perform _eram_record_problem(entry.name, v_problem);
    end if;
end;
$$;
