-- Defaults by handler, for every producer. The code declares them (eram_register_handler), an
-- administrator overrides them (eram_set_handler), and neither undoes the other.

-- What a handler is called that may be named by an alias.
create or replace function _eram_handler_name(handler text)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select coalesce(
        (
            select handlers.alias_of
            from eram_handlers as handlers
            where handlers.name = handler
        ),
        handler);
$$;
