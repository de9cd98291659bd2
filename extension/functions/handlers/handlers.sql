-- Defaults by handler, for every producer. The code declares them (eram_register_handler), an
-- administrator overrides them (eram_set_handler), and neither undoes the other. Whoever changes
-- anything locks the table first, against others who do; enqueues and claims only read.

-- What a handler is called that may be named by an alias. An alias is never one of an alias.
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

create or replace function _eram_lock_handlers()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    lock table eram_handlers in share row exclusive mode;
end;
$$;

-- Makes of both what holds. The handler is no alias any more.
create or replace function _eram_store_handler(handler text, declared jsonb, overrides jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_options jsonb := declared || overrides;
    v_row     eram_handlers;
begin
    v_row.name := handler;
    v_row.queue := v_options ->> 'queue';
    v_row.priority := (v_options -> 'priority')::integer;
    v_row.max_attempts := (v_options -> 'max_attempts')::integer;
    v_row.meta := v_options -> 'meta';
    v_row.backoff := v_options -> 'backoff';
    v_row.unique_by := v_options -> 'unique';
    v_row.declared := declared;
    v_row.overrides := overrides;
    if v_options ? 'tags' then
        v_row.tags := _eram_read_tags(v_options -> 'tags');
    end if;
    if v_options ? 'timeout' then
        v_row.timeout := _eram_read_interval('timeout', v_options -> 'timeout');
    end if;

    select handlers.registered_at into v_row.registered_at
    from eram_handlers as handlers
    where handlers.name = v_row.name;
    delete from eram_handlers as handlers
    where handlers.name = v_row.name;
    insert into eram_handlers
    values (v_row.*);
end;
$$;

create or replace function _eram_is_registered(handler text, declared jsonb, aliases text[])
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select exists (
        select
        from eram_handlers as handlers
        where
            handlers.name = handler
            and handlers.alias_of is null
            and handlers.registered_at is not null
            and handlers.declared = _eram_is_registered.declared
    )
    and not exists (
        select
        from unnest(aliases) as wanted (name)
        left join eram_handlers as handlers on handlers.name = wanted.name
        where handlers.alias_of is distinct from handler
    );
$$;

create or replace function eram_register_handler(
    handler      text,
    queue        text     default null,
    max_attempts integer  default null,
    priority     integer  default null,
    tags         text[]   default null,
    unique_by    jsonb    default null,
    backoff      jsonb    default null,
    timeout      interval default null,
    meta         jsonb    default null,
    aliases      text[]   default null
)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
    set intervalstyle to postgres
as $$
declare
    v_handler   text   := handler;
    v_aliases   text[] := coalesce(aliases, '{}');
    v_alias     text;
    v_declared  jsonb;
    v_overrides jsonb;
begin
    perform _eram_check_handler(v_handler);
    if array_ndims(v_aliases) > 1 then
        raise exception using
            errcode = 'array_subscript_error',
            message = 'aliases must be a list',
            hint = 'Pass aliases as ''{app.jobs:old_name}''.';
    end if;
    foreach v_alias in array v_aliases loop
        perform _eram_check_handler(v_alias);
        if v_alias = v_handler then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('handler "%s" cannot be an alias of itself', v_handler),
                hint = 'An alias is what the handler was called before.';
        end if;
    end loop;

    v_declared := jsonb_strip_nulls(jsonb_build_object(
        'queue', queue,
        'max_attempts', max_attempts,
        'priority', priority,
        'tags', tags,
        'timeout', timeout::text));
    -- Not stripped: a null deep within them is a value.
    v_declared := v_declared || (
        select coalesce(jsonb_object_agg(given.key, given.value), '{}')
        from (
            values
                ('meta', meta),
                ('backoff', backoff),
                ('unique', unique_by)
        ) as given (key, value)
        where given.value <> 'null'
    );
    if tags is not null then
        perform _eram_check_tags(tags);
    end if;
    perform _eram_check_handler_values('handler', v_declared);

    -- Nearly always nothing has changed: then nothing is locked either.
    if _eram_is_registered(v_handler, v_declared, v_aliases) then
        return;
    end if;
    perform _eram_lock_handlers();

    -- What an administrator has set for another name of it holds for this one, there and back.
    v_overrides := '{}';
    for v_alias in
        select handlers.name
        from eram_handlers as handlers
        where
            handlers.name = any (v_handler || v_aliases)
            or handlers.name = (
                select mine.alias_of
                from eram_handlers as mine
                where mine.name = v_handler
            )
        order by
            handlers.name = v_handler,
            handlers.name
    loop
        v_overrides := v_overrides || (
            select handlers.overrides
            from eram_handlers as handlers
            where handlers.name = v_alias
        );
    end loop;

    perform _eram_store_handler(v_handler, v_declared, v_overrides);
    update eram_handlers as handlers
    set registered_at = clock_timestamp()
    where handlers.name = v_handler;

    -- With those that these names have been aliased by.
    delete from eram_handlers as handlers
    where handlers.name = any (v_aliases);
    insert into eram_handlers (name, alias_of, declared, overrides)
    select distinct
        wanted.name,
        v_handler,
        '{}'::jsonb,
        '{}'::jsonb
    from unnest(v_aliases) as wanted (name);
    update eram_handlers as handlers
    set alias_of = v_handler
    where handlers.alias_of = any (v_aliases);
end;
$$;

comment on function eram_register_handler is
    'Declare what jobs of a handler have unless the producer, or an administrator by '
    'eram_set_handler(), says otherwise; null is the default of the queue. It replaces what was '
    'declared before; workers call it when they start. aliases are former names of the handler: '
    'jobs enqueued under these, already or in future, are run by it. They stay until one is '
    'registered as a handler itself, or the handler is deleted.';

create or replace function eram_set_handler(handler text, overrides jsonb)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_handler   text  := handler;
    v_overrides jsonb := overrides;
begin
    perform _eram_check_handler(v_handler);
    if jsonb_typeof(v_overrides) = 'object' then
        select coalesce(jsonb_object_agg(given.key, given.value), '{}') into v_overrides
        from jsonb_each(v_overrides) as given
        where given.value <> 'null';
    end if;
    perform _eram_check_handler_values('overrides', v_overrides);

    perform _eram_lock_handlers();
    v_handler := _eram_handler_name(v_handler);
    perform _eram_store_handler(
        v_handler,
        coalesce(
            (
                select handlers.declared
                from eram_handlers as handlers
                where handlers.name = v_handler
            ),
            '{}'),
        v_overrides);
end;
$$;

comment on function eram_set_handler is
    'Override what the code declares for a handler, in an object with the keys queue, '
    'max_attempts, priority, tags, meta, backoff, timeout, unique. It holds for jobs enqueued from '
    'now on, over deployments too, until it is replaced; {} takes it back. What a producer says of '
    'a job goes before it.';

create or replace function eram_delete_handler(handler text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
declare
    v_handler text := handler;
begin
    perform _eram_check_handler(v_handler);
    perform _eram_lock_handlers();

    delete from eram_handlers as handlers
    where handlers.name = v_handler or handlers.alias_of = v_handler;
    return found;
end;
$$;

comment on function eram_delete_handler is
    'Forget the defaults of a handler and its aliases, or one alias. A worker that knows it '
    'registers it again when it starts. Returns whether there was anything.';
