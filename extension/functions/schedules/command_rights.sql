-- Who may run commands of schedules, and what keeps a command from reaching beyond its own rights
-- and its own time.

-- Who ticks. Inside a function that runs as its owner, only these two still tell.
create or replace function _eram_invoker()
    returns name
    language sql
    stable
    set search_path from current
as $$
    select case current_setting('role')
        when 'none' then session_user
        else current_setting('role')::name
    end;
$$;

-- SQL runs with the owner's rights whoever calls eram_run_command(), so a superuser may; but what
-- is handed out to be run at top level runs with the rights of who takes it.
create or replace function _eram_may_run_commands(are_top_level boolean)
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select case
        when are_top_level then session_user = tables.owner and _eram_invoker() = tables.owner
        else pg_has_role(session_user, tables.owner, 'usage')
            and pg_has_role(_eram_invoker(), tables.owner, 'usage')
    end
    from (
        select pg_get_userbyid(relations.relowner) as owner
        from pg_catalog.pg_class as relations
        where relations.oid = 'eram_schedules'::regclass
    ) as tables;
$$;

create or replace function _eram_check_may_run_commands()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    if not _eram_may_run_commands(are_top_level => false) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'permission denied for the commands of schedules',
            hint = 'Only the owner of eram and superusers may run them.';
    end if;
end;
$$;

-- Commands may not change the ticker's session for what comes after them.
create or replace function _eram_settings()
    returns jsonb
    language sql
    stable
    set search_path from current
as $$
    select jsonb_object_agg(settings.name, settings.setting)
    from pg_catalog.pg_settings as settings
    where
        settings.context in ('user', 'superuser')
        and settings.name !~ '^(transaction_(isolation|read_only|deferrable)|search_path)$';
$$;

create or replace function _eram_restore_settings(before jsonb)
    returns void
    language sql
    volatile
    set search_path from current
as $$
    select set_config(settings.name, before ->> settings.name, false)
    from pg_catalog.pg_settings as settings
    where before ->> settings.name <> settings.setting;
$$;

-- What a command leaves for the end of the transaction would run with the rights of the session's
-- user. Against an owner who means harm this is no wall: the functions are his.
create or replace function _eram_leave_nothing_behind()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_cursor text;
begin
    set constraints all immediate;

    for v_cursor in
        select cursors.name
        from pg_catalog.pg_cursors as cursors
        where
            cursors.is_holdable
            and cursors.creation_time >= statement_timestamp()
    loop
        -- Dynamic, because a cursor is closed by its name.
        execute format('close %I', v_cursor);
    end loop;
end;
$$;
