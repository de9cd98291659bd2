-- What CREATE EXTENSION does by itself: the script runs under "<schema>, pg_temp", and so `set
-- search_path from current` pins each function to exactly that.
do $$
begin
    if current_schema() is null then
        raise exception using
            errcode = 'invalid_schema_name',
            message = 'no schema has been selected to install eram into',
            hint = 'Create the schema and put it first in search_path.';
    end if;
    if to_regclass(quote_ident(current_schema()) || '.eram_job_specs') is not null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('eram is already installed in schema "%s"', current_schema()),
            hint = 'See eram_version() for which version it is.';
    end if;
    perform set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
end;
$$;
