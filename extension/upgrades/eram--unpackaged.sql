\echo Use "CREATE EXTENSION eram VERSION 'unpackaged'" to load this file. \quit
-- Makes an extension of what the plain script has installed, its rows included. It begins without
-- any object: ALTER EXTENSION eram UPDATE adds those that are there.

-- Nothing of others may lie where it would be taken for the server's own. From here on functions
-- and operators are looked for in this schema too, and what fits better goes before what is in
-- pg_catalog: it would run with the rights of whoever installs eram, and later with its owner's.

do $$
declare
    v_trap record;
begin
    -- Everything is qualified, because nothing can be trusted yet. What a superuser has put there
    -- is trusted: other extensions' overloads mostly.
    select
        traps.what,
        roles.rolname as owner
    into v_trap
    from (
        select
            pg_catalog.format('function %s', functions.oid::pg_catalog.regprocedure) as what,
            functions.pronamespace as schema,
            functions.proowner as owner
        from pg_catalog.pg_proc as functions
        where exists (
            select
            from pg_catalog.pg_proc as own
            where
                own.proname operator(pg_catalog.=) functions.proname
                and own.pronamespace
                    operator(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
        )
        union all
        select
            pg_catalog.format('operator %s', operators.oid::pg_catalog.regoperator),
            operators.oprnamespace,
            operators.oprowner
        from pg_catalog.pg_operator as operators
    ) as traps
    join pg_catalog.pg_namespace as schemas on schemas.oid operator(pg_catalog.=) traps.schema
    join pg_catalog.pg_roles as roles on roles.oid operator(pg_catalog.=) traps.owner
    where
        schemas.nspname operator(pg_catalog.=) pg_catalog.current_schema()
        and roles.rolname operator(pg_catalog.<>) current_user
        and not roles.rolsuper
    limit 1;

    if found then
        raise exception using
            errcode = 'insufficient_privilege',
            message = pg_catalog.format(
                '%s of role "%s" would be called in place of the server''s own',
                v_trap.what, v_trap.owner),
            hint = 'Drop it, or install eram into a schema of its own.';
    end if;
end;
$$;

do $$
declare
    v_owner name;
begin
    select pg_get_userbyid(class.relowner) into v_owner
    from pg_catalog.pg_class as class
    where
        class.relnamespace = quote_ident(current_schema())::regnamespace
        and class.relname = 'eram_job_specs';

    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('eram is not in schema "%s"', current_schema()),
            hint = 'Name the schema where it is. If it is nowhere, CREATE EXTENSION eram makes it.';
    elsif v_owner <> current_user then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('eram belongs to "%s"', v_owner),
            hint = format('SET ROLE %I, so that the extension belongs to the same.', v_owner);
    end if;
end;
$$;
