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

    if has_schema_privilege('public', current_schema(), 'create') then
        raise warning using
            errcode = '01000',
            message = format(
                'everyone may create objects in schema "%s", which eram is installed in',
                current_schema()),
            hint = format(
                'REVOKE CREATE ON SCHEMA %I FROM PUBLIC, or install eram into its own schema.',
                current_schema());
    end if;
end;
$$;
