-- Who may enqueue to which queue. That a role may enqueue at all is a right of PostgreSQL's; what
-- is here restricts it. Where nobody is restricted, an enqueue looks whether anybody is, and no
-- more.

-- That a role is restricted is kept as a right as well: its name may change, and what was granted
-- by the old one must not become a right to everything.
create or replace function _eram_granted_queues()
    returns void
    language sql
    immutable
    set search_path from current
as 'select';

create or replace function _eram_is_restricted(role oid)
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
            functions.oid = to_regprocedure('_eram_granted_queues()')
            and items.grantee = _eram_is_restricted.role
    );
$$;

-- By any of the roles that the caller acts as: one without restriction is enough.
create or replace function _eram_may_enqueue(queue text)
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select pg_has_role(_eram_invoker(), tables.relowner, 'usage')
        or exists (
            select
            from pg_catalog.pg_proc as functions
            cross join lateral aclexplode(functions.proacl) as items
            where
                functions.oid = to_regprocedure('_eram_granted_enqueue()')
                and items.grantee <> 0
                and pg_has_role(_eram_invoker(), items.grantee, 'usage')
                and case
                    when
                        _eram_is_restricted(items.grantee)
                        or exists (
                            select
                            from eram_queue_grants as restricted
                            where restricted.role = pg_get_userbyid(items.grantee)
                        )
                    then exists (
                        select
                        from eram_queue_grants as allowed
                        where
                            allowed.role = pg_get_userbyid(items.grantee)
                            and allowed.queue = _eram_may_enqueue.queue
                    )
                    else true
                end
        )
        -- Granted by hand, and so without restriction.
        or not exists (
            select
            from eram_queue_grants as restricted
            join pg_catalog.pg_roles as roles on roles.rolname = restricted.role
            where pg_has_role(_eram_invoker(), roles.oid, 'usage')
        )
        and not exists (
            select
            from pg_catalog.pg_proc as functions
            cross join lateral aclexplode(functions.proacl) as items
            where
                functions.oid = to_regprocedure('_eram_granted_queues()')
                and items.grantee <> tables.relowner
                and pg_has_role(_eram_invoker(), items.grantee, 'usage')
        )
    from pg_catalog.pg_class as tables
    where tables.oid = 'eram_job_specs'::regclass;
$$;

-- Called where anybody is restricted.
create or replace function _eram_check_may_enqueue(specs eram_job_specs[])
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_spec record;
begin
    for v_spec in
        select distinct
            wanted.queue,
            -- Its key may be that of another queue's job, and keeps that from being enqueued.
            not coalesce(nullif(wanted.unique_by -> 'fields', 'null') ? 'queue', true)
                as reaches_out
        from unnest(specs) as wanted
    loop
        if not _eram_may_enqueue(v_spec.queue) then
            raise exception using
                errcode = 'insufficient_privilege',
                message = format('permission denied for queue "%s"', v_spec.queue),
                hint = 'Ask for eram_grant(role, ''enqueue'', queues).';
        elsif v_spec.reaches_out and not _eram_may_enqueue('') then
            raise exception using
                errcode = 'insufficient_privilege',
                message = 'permission denied for jobs of other queues',
                hint = 'Let "queue" be among the fields of unique.';
        end if;
    end loop;
end;
$$;

-- What eram_grant() says of queues. Null is all of them.
create or replace function _eram_restrict_to_queues(role text, what text, queues text[])
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_role  text := role;
    v_queue text;
begin
    if queues is null then
        if what in ('enqueue', 'admin') then
            delete from eram_queue_grants as restricted
            where restricted.role = v_role;
            execute format('revoke execute on routine _eram_granted_queues() from %I', v_role);
        end if;
        return;
    elsif what <> 'enqueue' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('"%s" cannot be granted for some queues only', what),
            hint = 'Only enqueue can; leave queues out.';
    elsif cardinality(queues) = 0 or array_ndims(queues) > 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'queues must be a list of at least one queue',
            hint = 'Pass the queues that the role may enqueue to, or null for all.';
    end if;
    foreach v_queue in array queues loop
        perform _eram_check_queue(v_queue);
    end loop;

    delete from eram_queue_grants as restricted
    where restricted.role = v_role;
    insert into eram_queue_grants (role, queue)
    select distinct
        v_role,
        wanted.queue
    from unnest(queues) as wanted (queue);
    -- Dynamic, because GRANT takes no variables.
    execute format('grant execute on routine _eram_granted_queues() to %I', v_role);
end;
$$;
