-- The tick: whatever is due is done, once, by whoever comes first. An entry is locked, carried out
-- and advanced in one transaction; what another ticker has locked is passed over. Entries are
-- locked one by one, because a cursor would lock several while the first is carried out. A tick
-- waits for nobody.

create or replace function eram_tick(
    max_commands   integer default null,
    with_top_level boolean default null
)
    returns table (
        run_id       bigint,
        command      text,
        timeout      interval,
        next_tick_at timestamptz,
        schedule     text
    )
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    c_most_entries constant integer := 100;
    v_now          timestamptz      := clock_timestamp();
    v_is_runner    boolean          := max_commands is null;
    v_max_commands integer          := coalesce(max_commands, 1000);
    v_in_hand      eram_schedule_runs;
    v_actions      text[]           := '{job,prune,lifeline,recorder}';
    v_name         text;
    v_entry        eram_schedules;
    v_run          eram_schedule_runs;
    v_entry_count  integer          := 0;
    v_count        integer          := 0;
    v_rescued      bigint;
begin
    if max_commands < 0 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('max_commands must not be negative, got %s', max_commands),
            hint = 'With 0 no command is handed out, with null all that are due.';
    end if;

    if current_setting('eram.is_running_command', true) = 'on' then
        v_is_runner := false;
        v_max_commands := 0;
    elsif v_is_runner then
        v_in_hand := _eram_in_hand();
        -- What was taken in this very transaction is not recorded yet.
        if v_in_hand.taken_at < transaction_timestamp() then
            perform _eram_run_in_hand(v_in_hand.id);
            next_tick_at := clock_timestamp();
            return next;
            return;
        end if;
    end if;

    begin
        v_rescued := eram_rescue_jobs();
        if v_rescued > 0 then
            -- To the client alone, whatever it wants to hear: its log should say so.
            raise info using
                errcode = '00000',
                message = format('rescued %s jobs of workers that died', v_rescued),
                hint = 'The errors of these jobs say whose they were.';
        end if;
    exception
        when others then
            raise warning using
                errcode = '01000',
                message = format('the rescue of jobs failed: %s', sqlerrm),
                hint = 'The next tick tries again.';
    end;
    perform _eram_make_maintenance(may_wait => false);

    if v_max_commands > 0 and _eram_may_run_commands(are_top_level => false) then
        v_actions := v_actions || 'sql'::text;
        if coalesce(with_top_level, true) and _eram_may_run_commands(are_top_level => true) then
            v_actions := v_actions || '{top_level,reindexer}'::text[];
        end if;
    end if;

    -- Found once, then locked one by one: each look from the front would pass over all the versions
    -- that an old snapshot keeps. All of them, since others may hold the first hundreds.
    foreach v_name in array array(
        select schedules.name
        from eram_schedules as schedules
        where
            schedules.next_run_at <= v_now
            and schedules.action = any (v_actions)
        order by schedules.next_run_at
    ) loop
        select schedules.* into v_entry
        from eram_schedules as schedules
        where
            schedules.name = v_name
            and schedules.next_run_at <= v_now
            and schedules.action = any (v_actions)
        for update skip locked;

        continue when not found;
        perform _eram_run_entry(v_entry, v_now);
        v_entry_count := v_entry_count + 1;
        exit when v_entry_count >= c_most_entries;
    end loop;

    select min(upcoming.next_run_at) into next_tick_at
    from (
        select schedules.next_run_at
        from eram_schedules as schedules
        where
            schedules.next_run_at is not null
            and schedules.action = any (v_actions)
        order by schedules.next_run_at
        limit 1
    ) as upcoming;

    -- What is due still is another's, or waits for what will pass.
    if next_tick_at <= v_now and v_entry_count < c_most_entries then
        next_tick_at := v_now + interval '1 second';
    end if;

    -- Soon, when a worker is missing and may be found dead.
    next_tick_at := least(
        next_tick_at,
        v_now + case
            when exists (
                select
                from eram_workers as workers
                where workers.ended_at is null and workers.missing_since is not null
            )
            then interval '0.5 seconds'
            else interval '1 minute'
        end);
    next_tick_at := greatest(next_tick_at, v_now);

    -- What it says is for those who may know of commands.
    if _eram_may_run_commands(are_top_level => false) then
        perform _eram_end_lost_commands();
    end if;
    while v_count < v_max_commands and 'sql' = any (v_actions) loop
        -- Of each schedule the first alone, until it is over: two that rebuild indexes of one table
        -- would end in a deadlock.
        update eram_schedule_runs as runs
        set taken_at = clock_timestamp()
        where runs.id = (
            select due.id
            from eram_schedule_runs as due
            where
                due.taken_at is null
                and case
                    when due.is_top_level then 'top_level' = any (v_actions)
                    else not v_is_runner or v_in_hand.id is null
                end
                and not exists (
                    select
                    from eram_schedule_runs as other
                    where other.name = due.name and other.id < due.id
                )
            order by due.id
            limit 1
            for update skip locked
        )
        returning runs.* into v_run;

        exit when not found;
        v_count := v_count + 1;
        schedule := v_run.name;
        timeout := v_run.timeout;
        if v_is_runner and not v_run.is_top_level then
            v_in_hand := v_run;
            perform _eram_take_in_hand(v_run.id);
            run_id := null;
            command := null;
            next_tick_at := v_now;
        else
            run_id := v_run.id;
            command := case
                when v_run.is_top_level then v_run.command
                else format('SELECT %I.eram_run_command(%s)', _eram_schema(), v_run.id)
            end;
        end if;
        return next;
    end loop;

    if v_count = 0 then
        return next;
    end if;
end;
$$;

comment on function eram_tick is
    'Do whatever is due: rescue jobs, enqueue those of schedules, prune, run commands. Anything '
    'may call it, as often as it likes, and any number at a time: each occurrence is done once. '
    'Call it again at next_tick_at. There is always a row. A command for the top level comes in a '
    'row of its own: set statement_timeout to timeout, run it at once in autocommit, and report it '
    'by eram_finish_command(). An SQL command is run by this session''s next call, which does '
    'nothing else; its schedule and timeout are in a row without a run_id. With max_commands SQL '
    'is returned like the rest, and no more than so many in all; with_top_level => false leaves '
    'the top level to others. Only the owner of eram is given the top level, only he and '
    'superusers run SQL.';
