-- A session that ticks and runs SQL itself has one command in hand: the setting says which. It is
-- run by the tick after the one that took it, and that tick does nothing else.
create or replace function _eram_take_in_hand(run_id bigint)
    returns void
    language sql
    volatile
    set search_path from current
as $$
    select set_config('eram.command', coalesce(run_id::text, ''), false);
$$;

create or replace function _eram_in_hand()
    returns eram_schedule_runs
    language plpgsql
    stable
    set search_path from current
as $$
declare
    v_setting text := coalesce(current_setting('eram.command', true), '');
    v_run     eram_schedule_runs;
begin
    if v_setting !~ '^[0-9]{1,18}$' or not _eram_may_run_commands(are_top_level => false) then
        return null;
    end if;

    select runs.* into v_run
    from eram_schedule_runs as runs
    where
        runs.id = v_setting::bigint
        and runs.taken_at is not null
        and not runs.is_top_level;
    return v_run;
end;
$$;

-- A timeout undoes everything but the lock of the session: who finds it held has been here before.
create or replace function _eram_run_in_hand(run_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_class integer := 'eram_schedule_runs'::regclass::oid::integer;
    v_key   integer := _eram_command_key(run_id);
begin
    if _eram_holds_lock(v_class, v_key) then
        perform eram_finish_command(run_id, 'the command was cancelled or ran into a timeout');
        perform pg_advisory_unlock(v_class, v_key);
    elsif pg_try_advisory_lock(v_class, v_key) then
        perform eram_run_command(run_id);
        perform pg_advisory_unlock(v_class, v_key);
    else
        perform eram_finish_command(run_id, 'the command was not run: its lock is another''s');
    end if;
    perform _eram_take_in_hand(null);
end;
$$;
