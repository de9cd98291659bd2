\echo Use "CREATE EXTENSION eram VERSION 'unpackaged'" to load this file. \quit
-- Makes an extension of what the plain script has installed, its rows included. It begins without
-- any object: ALTER EXTENSION eram UPDATE adds those that are there. It takes all that is named
-- eram_... and belongs to the owner of eram: that nothing of his own is among it, he answers for.
-- What becomes a member goes with the extension, and is left out of dumps.

-- First of all, whose it is. Everything is qualified, because nothing can be trusted yet.

do $$
declare
    v_owner name;
begin
    select roles.rolname into v_owner
    from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as schemas
        on schemas.oid operator(pg_catalog.=) class.relnamespace
    join pg_catalog.pg_roles as roles on roles.oid operator(pg_catalog.=) class.relowner
    where
        schemas.nspname operator(pg_catalog.=) pg_catalog.current_schema()
        and class.relname operator(pg_catalog.=) 'eram_job_specs';

    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = pg_catalog.format(
                'eram is not in schema "%s"', pg_catalog.current_schema()),
            hint = 'Name the schema where it is. If it is nowhere, CREATE EXTENSION eram makes it.';
    elsif v_owner operator(pg_catalog.<>) current_user then
        raise exception using
            errcode = 'insufficient_privilege',
            message = pg_catalog.format('eram belongs to "%s"', v_owner),
            hint = pg_catalog.format(
                'SET ROLE %I, so that the extension belongs to the same.', v_owner);
    end if;
end;
$$;

-- Nothing of others may lie where it would be taken for the server's own, or for eram's. From here
-- on functions and operators are looked for in this schema too, and what fits better goes before
-- what is in pg_catalog: it would run with the rights of whoever installs eram, and later with its
-- owner's.

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
        where
            functions.proname operator(pg_catalog.~) '^_?eram_'
            or exists (
                select
                from pg_catalog.pg_proc as own
                where
                    own.proname operator(pg_catalog.=) functions.proname
                    and own.pronamespace
                        operator(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
            )
        union all
        select
            pg_catalog.format('type %s', types.oid::pg_catalog.regtype),
            types.typnamespace,
            types.typowner
        from pg_catalog.pg_type as types
        where types.typname operator(pg_catalog.~) '^_?eram_'
        union all
        select
            pg_catalog.format('relation %s', relations.oid::pg_catalog.regclass),
            relations.relnamespace,
            relations.relowner
        from pg_catalog.pg_class as relations
        where relations.relname operator(pg_catalog.~) '^_?eram_'
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
                '%s of role "%s" would be taken for the server''s own, or for eram''s',
                v_trap.what, v_trap.owner),
            hint = 'Drop it, or install eram into a schema of its own.';
    end if;
end;
$$;
