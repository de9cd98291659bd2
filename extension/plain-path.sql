-- What CREATE EXTENSION does by itself: the script runs under "<schema>, pg_temp", and so `set
-- search_path from current` pins each function to exactly that. Until then everything is qualified.
do $$
begin
    if pg_catalog.current_schema() is null then
        raise exception using
            errcode = 'invalid_schema_name',
            message = 'no schema has been selected to install eram into',
            hint = 'Create the schema and put it first in search_path.';
    end if;
    if pg_catalog.to_regclass(
        pg_catalog.format('%I.eram_job_specs', pg_catalog.current_schema())) is not null
    then
        raise exception using
            errcode = 'duplicate_object',
            message = pg_catalog.format(
                'eram is already installed in schema "%s"', pg_catalog.current_schema()),
            hint = 'See eram_version() for which version it is.';
    end if;
    perform pg_catalog.set_config(
        'search_path', pg_catalog.format('%I, pg_temp', pg_catalog.current_schema()), true);
end;
$$;
