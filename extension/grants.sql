-- Nobody but the owner may call anything until he grants it; and what pg_dump must not leave out.

do $$
declare
    v_object record;
begin
    for v_object in
        select
            'routine' as kind,
            functions.oid::regprocedure::text as name,
            'public' as grantee
        from pg_catalog.pg_proc as functions
        where
            functions.pronamespace = quote_ident(current_schema())::regnamespace
            and functions.proname ~ '^_?eram_'
        -- And whoever has something by the default privileges of the installer.
        union all
        select
            given.kind,
            given.name,
            coalesce(quote_ident(roles.rolname), 'public')
        from (
            select
                'routine' as kind,
                functions.oid::regprocedure::text as name,
                functions.proowner as owner,
                rights.grantee
            from pg_catalog.pg_proc as functions
            cross join lateral aclexplode(functions.proacl) as rights
            where
                functions.pronamespace = quote_ident(current_schema())::regnamespace
                and functions.proname ~ '^_?eram_'
            union all
            select
                case relations.relkind when 'S' then 'sequence' else 'table' end,
                relations.oid::regclass::text,
                relations.relowner,
                rights.grantee
            from pg_catalog.pg_class as relations
            cross join lateral aclexplode(relations.relacl) as rights
            where
                relations.relnamespace = quote_ident(current_schema())::regnamespace
                and relations.relname ~ '^eram_'
        ) as given
        left join pg_catalog.pg_roles as roles on roles.oid = given.grantee
        where given.grantee not in (given.owner, 0)
        group by
            given.kind,
            given.name,
            roles.rolname
    loop
        -- Dynamic, so that no object is ever forgotten.
        execute format(
            'revoke all on %s %s from %s', v_object.kind, v_object.name, v_object.grantee);
    end loop;
end;
$$;

-- The rows of an extension's tables are dumped only if it says so; each sequence needs its own
-- word.
do $$
declare
    v_creators text;
    v_grantees text;
begin
    if exists (
        select
        from pg_catalog.pg_depend as membership
        where
            membership.classid = 'pg_catalog.pg_class'::regclass
            and membership.objid = 'eram_job_specs'::regclass
            and membership.deptype = 'e'
    ) then
        perform pg_catalog.pg_extension_config_dump('eram_job_specs', '');
        perform pg_catalog.pg_extension_config_dump('eram_job_specs_job_id_seq', '');
        perform pg_catalog.pg_extension_config_dump('eram_queued_jobs', '');
        perform pg_catalog.pg_extension_config_dump('eram_running_jobs', '');
        perform pg_catalog.pg_extension_config_dump('eram_finished_jobs', '');
        perform pg_catalog.pg_extension_config_dump('eram_completions', '');
        perform pg_catalog.pg_extension_config_dump('eram_job_errors', '');
        perform pg_catalog.pg_extension_config_dump('eram_unique_keys', '');
        perform pg_catalog.pg_extension_config_dump('eram_handlers', '');
        perform pg_catalog.pg_extension_config_dump('eram_queues', '');
        perform pg_catalog.pg_extension_config_dump('eram_queue_grants', '');
        perform pg_catalog.pg_extension_config_dump('eram_removals', '');
        perform pg_catalog.pg_extension_config_dump('eram_workers', '');
        perform pg_catalog.pg_extension_config_dump('eram_workers_id_seq', '');
        perform pg_catalog.pg_extension_config_dump('eram_cancelled_runs', '');
        perform pg_catalog.pg_extension_config_dump('eram_schedules', '');
        perform pg_catalog.pg_extension_config_dump('eram_schedule_runs', '');
        perform pg_catalog.pg_extension_config_dump('eram_schedule_runs_id_seq', '');
        perform pg_catalog.pg_extension_config_dump('eram_unscheduled', '');
        perform pg_catalog.pg_extension_config_dump('eram_declared_schedules', '');
        perform pg_catalog.pg_extension_config_dump('eram_minutes', '');
        perform pg_catalog.pg_extension_config_dump('eram_totals', '');
        perform pg_catalog.pg_extension_config_dump('eram_removal_counts', '');
        perform pg_catalog.pg_extension_config_dump('eram_recordings', '');
    end if;

    -- What they create there can be taken for the server's own, and run with eram's rights. Whom
    -- the schema belongs to is among them, and that is the database's owner where
    -- pg_database_owner has it.
    select
        string_agg(
            case
                when creators.grantee = 0 then 'everyone'
                else format('role "%s"', pg_get_userbyid(creators.grantee))
            end,
            ', ' order by creators.grantee),
        string_agg(
            case
                when creators.grantee = 0 then 'PUBLIC'
                else quote_ident(pg_get_userbyid(creators.grantee))
            end,
            ', ' order by creators.grantee)
    into v_creators, v_grantees
    from (
        select
            case
                when rights.grantee = 'pg_database_owner'::regrole then databases.datdba
                else rights.grantee
            end as grantee
        from pg_catalog.pg_namespace as schemas
        join pg_catalog.pg_database as databases on databases.datname = current_database()
        cross join lateral aclexplode(
            coalesce(schemas.nspacl, acldefault('n', schemas.nspowner))) as rights
        where schemas.nspname = current_schema() and rights.privilege_type = 'CREATE'
        group by 1
    ) as creators
    left join pg_catalog.pg_roles as roles on roles.oid = creators.grantee
    where not coalesce(roles.rolsuper or roles.rolname = current_user, false);

    if v_creators is not null then
        raise warning using
            errcode = '01000',
            message = format(
                '%s may create objects in schema "%s", which eram is installed in',
                v_creators, current_schema()),
            hint = format(
                'REVOKE CREATE ON SCHEMA %I FROM %s, or install eram into a schema of its own.',
                current_schema(), v_grantees);
    end if;
end;
$$;
