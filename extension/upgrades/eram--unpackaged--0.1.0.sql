\echo Use "ALTER EXTENSION eram UPDATE" to load this file. \quit
-- The objects of a plain installation become those of the extension. With each release it is
-- renamed to the version of the release, which the plain installation must have first.

do $$
declare
    c_version constant text := '0.1.0';
    v_others  text;
    v_object  record;
begin
    if eram_version() <> c_version then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('eram is at version %s here, not %s', eram_version(), c_version),
            hint = 'DROP EXTENSION eram, run python -m eram upgrade, and begin again.';
    end if;

    -- What a member may at first is what CREATE EXTENSION gives, to pg_dump, and it would leave
    -- the rights of these roles out for ever.
    select string_agg(distinct coalesce(quote_ident(roles.rolname), 'public'), ', ') into v_others
    from (
        select
            acl.grantee,
            class.relowner as owner
        from pg_catalog.pg_class as class
        cross join aclexplode(class.relacl) as acl
        where
            class.relnamespace = quote_ident(current_schema())::regnamespace
            and class.relname ~ '^eram_'
        union all
        select
            acl.grantee,
            functions.proowner
        from pg_catalog.pg_proc as functions
        cross join aclexplode(functions.proacl) as acl
        where
            functions.pronamespace = quote_ident(current_schema())::regnamespace
            and functions.proname ~ '^_?eram_'
        union all
        select
            acl.grantee,
            class.relowner
        from pg_catalog.pg_class as class
        join pg_catalog.pg_attribute as columns on columns.attrelid = class.oid
        cross join aclexplode(columns.attacl) as acl
        where
            class.relnamespace = quote_ident(current_schema())::regnamespace
            and class.relname ~ '^eram_'
        union all
        -- Everybody may use a type, if nobody has said anything else.
        select
            acl.grantee,
            types.typowner
        from pg_catalog.pg_type as types
        cross join aclexplode(types.typacl) as acl
        where
            types.typnamespace = quote_ident(current_schema())::regnamespace
            and types.typname ~ '^eram_'
            and acl.grantee <> 0
    ) as granted
    left join pg_catalog.pg_roles as roles on roles.oid = granted.grantee
    where granted.grantee <> granted.owner;

    if v_others is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('other roles have rights to eram: %s', v_others),
            hint = 'Take them away first, and grant them again afterwards.';
    end if;

    for v_object in
        select
            case class.relkind
                when 'r' then 'table'
                when 'v' then 'view'
                when 'S' then 'sequence'
                when 'c' then 'type'
            end as kind,
            class.oid::regclass::text as name,
            class.relkind in ('r', 'S') as has_rows
        from pg_catalog.pg_class as class
        where
            class.relnamespace = quote_ident(current_schema())::regnamespace
            and class.relname ~ '^eram_'
            and class.relkind in ('r', 'v', 'S', 'c')
            and class.relowner = quote_ident(current_user)::regrole
        union all
        select
            'routine',
            functions.oid::regprocedure::text,
            false
        from pg_catalog.pg_proc as functions
        where
            functions.pronamespace = quote_ident(current_schema())::regnamespace
            and functions.proname ~ '^_?eram_'
            and functions.proowner = quote_ident(current_user)::regrole
    loop
        -- Dynamic, so that no object is ever forgotten.
        execute format('alter extension eram add %s %s', v_object.kind, v_object.name);
        if v_object.has_rows then
            perform pg_catalog.pg_extension_config_dump(v_object.name, '');
        end if;
    end loop;
end;
$$;
