-- What an application's configuration says of schedules: the difference to what it said before is
-- what is done, so that an administrator's changes hold until the declaration changes.
--
-- Registrations come one after another, by an advisory lock that is taken first; those that change
-- nothing take none. Then come the entries, in order of their names, and what a change of pruning
-- locks comes last. An administrator's call locks one entry, and a tick waits for none.

-- What a declaration changes. Besides the changes that are returned to the caller there are left
-- (not declared any more, and kept as an administrator has changed it) and forgotten (there is
-- nothing but the declaration).
create or replace function _eram_declared_changes(application text, entries eram_schedules[])
    returns table (name text, change text, declared_by text, entry eram_schedules)
    language sql
    stable
    set search_path from current
as $$
    with compared as (
        select
            coalesce(wanted.name, declared.name) as name,
            case
                when wanted.name is not null then
                    case
                        when _eram_declaration(wanted) = declared.declared
                            and (
                                present.name is null
                                or present.declared_by = application
                                or present.options is not null
                            )
                        then null
                        when present.name is null then
                            case
                                when declared.name is null and unscheduled.name is not null
                                then 'refused'
                                else 'added'
                            end
                        when present.declared_by = application
                            or present.options is not null
                            and (
                                present.declared_by is not null
                                or _eram_declaration(present) = (
                                    select _eram_declaration(defaults)
                                    from _eram_default_maintenance() as defaults
                                    where defaults.name = present.name
                                )
                            )
                        then 'changed'
                        else 'refused'
                    end
                when present.declared_by is distinct from application then 'forgotten'
                when present.options is null then 'removed'
                when _eram_declaration(present) = declared.declared then 'restored'
                else 'left'
            end as change,
            nullif(present.declared_by, application) as declared_by,
            wanted as entry
        from unnest(entries) as wanted
        full join (
            select
                mine.name,
                mine.declared
            from eram_declared_schedules as mine
            where mine.application = _eram_declared_changes.application
        ) as declared on declared.name = wanted.name
        left join eram_schedules as present
            on present.name = coalesce(wanted.name, declared.name)
        left join eram_unscheduled as unscheduled
            on unscheduled.name = coalesce(wanted.name, declared.name)
    )
    select compared.*
    from compared
    where compared.change is not null
    order by compared.name;
$$;

-- Returns false when someone else has made an entry of this name meanwhile.
create or replace function _eram_put_declared(entry eram_schedules)
    returns boolean
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_entry eram_schedules := _eram_permit_declaration(entry);
begin
    delete from eram_unscheduled as unscheduled
    where unscheduled.name = v_entry.name;
    perform _eram_put_schedule(v_entry);

    if not exists (
        select
        from eram_schedules as schedules
        where
            schedules.name = v_entry.name
            and schedules.declared_by = v_entry.declared_by
    ) then
        return false;
    end if;

    insert into eram_declared_schedules as declared (application, name, declared, declared_at)
    values (v_entry.declared_by, v_entry.name, _eram_declaration(entry), clock_timestamp())
    on conflict on constraint eram_declared_schedules_pkey do update
    set
        declared = excluded.declared,
        declared_at = excluded.declared_at;
    return true;
end;
$$;

-- Maintenance that an application declares no more is done as another one declares it, the last to
-- have done so, else by default.
create or replace function _eram_restore_maintenance(name text)
    returns text
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_name  text := name;
    v_other eram_declared_schedules;
    v_entry eram_schedules;
begin
    select others.* into v_other
    from eram_declared_schedules as others
    where others.name = v_name
    order by others.declared_at desc
    limit 1;

    v_entry := _eram_maintenance_entry(
        substr(v_name, length('eram:') + 1),
        v_other.declared ->> 'schedule',
        v_other.declared -> 'options',
        v_other.declared ->> 'timezone');
    perform _eram_permit_declaration(v_entry);
    update eram_schedules as schedules
    set declared_by = v_other.application
    where schedules.name = v_name;
    perform _eram_put_schedule(v_entry);
    return v_other.application;
end;
$$;

create or replace function eram_register_schedules(application text, schedules jsonb)
    returns table (name text, change text, declared_by text)
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    c_told constant text[] := '{added,changed,removed,restored,refused}';
    v_application   text   := application;
    v_entries       eram_schedules[];
    v_names         text[];
    v_change        record;
    v_entry         eram_schedules;
begin
    perform _eram_check_name('application', v_application, 255);
    v_entries := _eram_read_declarations(v_application, schedules);

    -- Nearly always nothing has changed: then nothing is locked either.
    if exists (
        select
        from _eram_declared_changes(v_application, v_entries) as changes
        where changes.change <> 'refused'
    ) then
        perform pg_advisory_xact_lock('eram_declared_schedules'::regclass::oid::integer, 0);
        perform _eram_make_maintenance(may_wait => true);
        v_names := array(
            select changes.name
            from _eram_declared_changes(v_application, v_entries) as changes
            where changes.change <> 'refused');
        perform
        from eram_schedules as locked
        where locked.name = any (v_names)
        order by locked.name
        for update;
    end if;

    -- Looked at again: what the locks were waited for is seen by now.
    for v_change in
        select changes.*
        from _eram_declared_changes(v_application, v_entries) as changes
        where changes.change = 'refused' or changes.name = any (v_names)
    loop
        name := v_change.name;
        change := v_change.change;
        declared_by := v_change.declared_by;

        if change in ('added', 'changed') then
            v_entry := v_change.entry;
            if not _eram_put_declared(v_entry) then
                change := 'refused';
                declared_by := (
                    select present.declared_by
                    from eram_schedules as present
                    where present.name = v_change.name);
            end if;
        elsif change <> 'refused' then
            delete from eram_declared_schedules as declared
            where
                declared.application = v_application
                and declared.name = v_change.name;
        end if;

        case change
            when 'removed' then
                delete from eram_schedules as removed
                where removed.name = v_change.name;
            when 'restored' then
                declared_by := _eram_restore_maintenance(v_change.name);
            when 'left' then
                update eram_schedules as kept
                set declared_by = null
                where kept.name = v_change.name;
            else null;
        end case;

        if change = any (c_told) then
            return next;
        end if;
    end loop;

    if 'eram:prune' = any (v_names) then
        perform _eram_note_removals(may_wait => true);
    end if;
end;
$$;

comment on function eram_register_schedules is
    'Declare all the schedules of an application: a JSON array of objects, each a job with the '
    'keys schedule, handler, args, name, timezone, missed, overlap and those of a job (queue, '
    'priority, ...), or {"maintenance": "prune"} (lifeline, recorder, reindexer) with schedule, '
    'timezone and options. What it declares as it did before is left alone, so an administrator''s '
    'change or removal holds until the declaration changes; what it no longer declares is removed, '
    'or, if it is maintenance that nobody has changed since, restored to the default. Returns what '
    'was added, changed, removed and restored, and what was refused, because an administrator or '
    'another application, declared_by, has it. For anything added or changed one needs the right '
    'to enqueue to its queue, for maintenance that of an administrator.';
