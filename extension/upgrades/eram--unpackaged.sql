\echo Use "CREATE EXTENSION eram VERSION 'unpackaged'" to load this file. \quit
-- Makes an extension of what the plain script has installed, its rows included. It begins without
-- any object: ALTER EXTENSION eram UPDATE adds those that are there.

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
            hint = 'Name the schema where it is: CREATE EXTENSION eram SCHEMA ... VERSION ''unpackaged''. '
                'If it is nowhere, CREATE EXTENSION eram makes it.';
    elsif v_owner <> current_user then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('eram belongs to "%s"', v_owner),
            hint = format('SET ROLE %I, so that the extension belongs to the same.', v_owner);
    end if;
end;
$$;
