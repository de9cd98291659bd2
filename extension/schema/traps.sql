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
