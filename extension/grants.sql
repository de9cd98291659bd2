-- Nobody but the owner may call anything until he grants it; and what pg_dump must not leave out.

do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select functions.oid::regprocedure
        from pg_catalog.pg_proc as functions
        where
            functions.pronamespace = quote_ident(current_schema())::regnamespace
            and functions.proname ~ '^_?eram_'
    loop
        -- Dynamic, so that no function is ever forgotten.
        execute format('revoke execute on routine %s from public', v_function);
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
    end if;

    -- What they create there can be taken for the server's own, and run with eram's rights.
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
    from pg_catalog.pg_namespace as schemas
    cross join lateral aclexplode(schemas.nspacl) as creators
    left join pg_catalog.pg_roles as roles on roles.oid = creators.grantee
    where
        schemas.nspname = current_schema()
        and creators.privilege_type = 'CREATE'
        and creators.grantee <> schemas.nspowner
        and not coalesce(roles.rolsuper or roles.rolname = current_user, false);

    if v_creators is not null then
        raise warning using
            errcode = '01000',
            message = format(
                '%s may create objects in schema "%s", which eram is installed in',
                v_creators, current_schema()),
            hint = format(
                'REVOKE CREATE ON SCHEMA %I FROM %s, or install eram into its own schema.',
                current_schema(), v_grantees);
    end if;
end;
$$;
