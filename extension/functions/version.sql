-- Which eram this is.

create or replace function eram_version()
    returns text
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select '0.1.0';
$$;

comment on function eram_version is 'The version of the objects installed in this schema.';
