-- Who may call and read what. eram makes no roles: its owner gives rights to those that there are,
-- by what they are for. That a role was granted something is kept as a right, too: to execute a
-- function that does nothing else. So it goes where rights go, into dumps and away with the role,
-- and what two grants have in common is taken back with the second of them.

-- The one list. Administrators have all of it. What is not in it is the owner's alone: what writes
-- or runs SQL commands, and giving rights.
create or replace function _eram_rights()
    returns table (names text[], whats text[])
    language sql
    immutable
    set search_path from current
as $$
    values
        ('{eram_version}'::text[], '{enqueue,work,read}'::text[]),
        (
            '{eram_enqueue_job,eram_enqueue_jobs}',
            '{enqueue}'
        ),
        -- A worker's handler cancels its own run; ids alone would let it cancel any, as it can
        -- claim any.
        (
            '{eram_start_worker,eram_heartbeat,eram_stop_worker,eram_register_handler,eram_fetch,'
            'eram_complete_jobs,eram_fail_job,eram_snooze_job,eram_discard_job,eram_cancel_job,'
            'eram_release_jobs,eram_release_other_jobs,eram_start_waiting,eram_stop_waiting,'
            'eram_rescue_jobs,eram_tick,eram_run,eram_register_schedules}',
            '{work}'
        ),
        ('{eram_retention}', '{work,read}'),
        (
            '{eram_jobs,eram_latest_jobs,eram_errors,eram_queues,eram_handlers,eram_workers,'
            'eram_schedules,eram_queue_stats,eram_count_jobs,eram_handler_stats,'
            'eram_count_handlers,eram_worker_stats,eram_throughput,eram_count_minutes,'
            'eram_latency,eram_measure_latency,eram_totals,eram_why,eram_find_jobs,eram_outcome,'
            'eram_backoff,eram_next_run,eram_check}',
            '{read}'
        ),
        ('{eram_health,eram_metrics}', '{read}'),
        (
            '{eram_cancel_jobs,eram_retry_job,eram_retry_jobs,eram_delete_job,eram_delete_jobs,'
            'eram_update_job,eram_move_jobs,eram_set_queue,eram_pause_queue,eram_resume_queue,'
            'eram_set_handler,eram_delete_handler,eram_schedule,eram_schedule_maintenance,'
            'eram_unschedule,eram_pause_schedule,eram_resume_schedule,eram_run_schedule,'
            'eram_prune_jobs,eram_reindex_plan}',
            '{}'
        );
$$;

create or replace function _eram_granted_enqueue()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

create or replace function _eram_granted_work()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

create or replace function _eram_granted_read()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

create or replace function _eram_granted_admin()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

-- USAGE of the schema, where the role did not have it already.
create or replace function _eram_granted_usage()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

-- Routines to execute and relations to read, one in a row.
create or replace function _eram_rights_for(what text)
    returns table (routine regprocedure, relation regclass)
    language sql
    stable
    set search_path from current
as $$
    with listed as (
        select unnest(rights.names) as name
        from _eram_rights() as rights
        where what = any (rights.whats || 'admin'::text)
        union all
        select '_eram_granted_' || what
    )
    select
        functions.oid::regprocedure,
        null
    from listed
    join pg_catalog.pg_proc as functions
        on functions.proname = listed.name
        and functions.pronamespace = quote_ident(_eram_schema())::regnamespace
    union all
    select
        null,
        relations.oid::regclass
    from listed
    join pg_catalog.pg_class as relations
        on relations.relname = listed.name
        and relations.relnamespace = quote_ident(_eram_schema())::regnamespace;
$$;

-- Not by membership, and not because someone granted one of its functions by hand.
create or replace function _eram_was_granted(role text, what text)
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select exists (
        select
        from pg_catalog.pg_proc as functions
        cross join lateral aclexplode(functions.proacl) as items
        where
            functions.oid = to_regprocedure(format('_eram_granted_%s()', what))
            and items.grantee = to_regrole(quote_ident(role))
    );
$$;

create or replace function _eram_check_grant(role text, what text)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_whats constant text[] := '{enqueue,work,read,admin}';
begin
    if role is null or what is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'role and what must not be null',
            hint = 'Pass a role and what it is to do: enqueue, work, read or admin.';
    elsif what <> all (c_whats) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('nobody can be granted "%s"', left(what, 100)),
            hint = format('Did you mean "%s"?', _eram_nearest(what, c_whats));
    elsif not exists (select from pg_catalog.pg_roles as roles where roles.rolname = role) then
        raise exception using
            errcode = 'undefined_object',
            message = format('role "%s" does not exist', left(role, 100)),
            hint = 'Make it first by CREATE ROLE; eram makes no roles.';
    elsif exists (
        select
        from pg_catalog.pg_class as relations
        where
            relations.oid = 'eram_job_specs'::regclass
            and relations.relowner = to_regrole(quote_ident(role))
    ) then
        raise exception using
            errcode = 'invalid_grant_operation',
            message = format('role "%s" is the owner of eram', role),
            hint = 'The owner may do everything, and has to; name another role.';
    end if;

    -- Two at a time would make one of them fail, with the server's "tuple concurrently updated".
    perform pg_advisory_xact_lock('eram_jobs'::regclass::oid::integer, 0);
end;
$$;

create or replace function eram_grant(
    role   text,
    what   text,
    queues text[] default null
)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_schema   name := _eram_schema();
    v_routine  regprocedure;
    v_relation regclass;
begin
    perform _eram_check_grant(role, what);
    perform _eram_restrict_to_queues(role, what, queues);

    -- Dynamic, because GRANT takes no variables.
    if not has_schema_privilege(role, v_schema, 'usage') then
        if not has_schema_privilege(v_schema, 'usage with grant option') then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format(
                    'role "%s" cannot be granted usage of schema "%s"',
                    role, v_schema),
                hint = format(
                    'Let the owner of the schema first GRANT USAGE ON SCHEMA %I TO %I.',
                    v_schema, role);
        end if;
        execute format('grant usage on schema %I to %I', v_schema, role);
        execute format('grant execute on routine _eram_granted_usage() to %I', role);
    end if;

    for v_routine, v_relation in
        select
            rights.routine,
            rights.relation
        from _eram_rights_for(what) as rights
    loop
        if v_routine is not null then
            execute format('grant execute on routine %s to %I', v_routine, role);
        else
            execute format('grant select on table %s to %I', v_relation, role);
        end if;
    end loop;
end;
$$;

comment on function eram_grant is
    'Give a role the rights that it needs, and no others. what is enqueue: to enqueue jobs; work: '
    'what a worker or a ticker calls; read: to look at jobs, queues, handlers, workers and '
    'schedules; admin: all of these, and to act on them. Who writes or runs SQL commands of '
    'schedules, and who grants, is left to the owner and the members of his role. Includes USAGE '
    'of the schema where the role has it not. Grant again after an upgrade, to include what is '
    'new. pg_dump takes these rights along, for the extension and the plain script alike; roles '
    'are taken along by pg_dumpall. queues, for enqueue only, are those that the role may enqueue '
    'to, in place of what was granted before; null is all. Such a role can neither replace nor '
    'keep out jobs of other queues: what it enqueues as unique is so within its queue. When it is '
    'renamed, grant again.';

create or replace function eram_revoke(role text, what text)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_what     text := what;
    v_kept     text[];
    v_routine  regprocedure;
    v_relation regclass;
begin
    perform _eram_check_grant(role, v_what);
    if v_what = 'enqueue' then
        delete from eram_queue_grants as restricted
        where restricted.role = eram_revoke.role;
        execute format('revoke execute on routine _eram_granted_queues() from %I', role);
    end if;
    if not _eram_was_granted(role, v_what) then
        return;
    end if;

    select coalesce(array_agg(others.what), '{}') into v_kept
    from unnest('{enqueue,work,read,admin}'::text[]) as others (what)
    where
        others.what <> v_what
        and _eram_was_granted(role, others.what);

    -- Dynamic, because REVOKE takes no variables.
    for v_routine, v_relation in
        select
            given.routine,
            given.relation
        from _eram_rights_for(v_what) as given
        except
        select
            needed.routine,
            needed.relation
        from unnest(v_kept) as kept (what)
        cross join lateral _eram_rights_for(kept.what) as needed
    loop
        if v_routine is not null then
            execute format('revoke execute on routine %s from %I', v_routine, role);
        else
            execute format('revoke select on table %s from %I', v_relation, role);
        end if;
    end loop;

    if v_kept = '{}' and _eram_was_granted(role, 'usage') then
        execute format('revoke usage on schema %I from %I', _eram_schema(), role);
        execute format('revoke execute on routine _eram_granted_usage() from %I', role);
    end if;
end;
$$;

comment on function eram_revoke is
    'Take back from a role what eram_grant() gave it for this; what it was also granted for '
    'something else stays, and so does what it has as a member of another role. When nothing was '
    'granted for this nothing changes, also not what was given by hand; what was given both ways '
    'is taken back.';
