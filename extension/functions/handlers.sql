-- Defaults by handler, for every producer. The code declares them (eram_register_handler), an
-- administrator overrides them (eram_set_handler), and neither undoes the other. Who writes several
-- rows locks them in order of their names. Enqueues only read.

create or replace function _eram_handler_keys()
    returns text[]
    language sql
    immutable
    set search_path from current
as $$
    select '{queue,max_attempts,priority,tags,meta,backoff,timeout,unique}'::text[];
$$;

-- What a handler is called that may be named by an alias. An alias may since have become an alias
-- itself; they never form a ring, because whoever is registered is no alias any more.
create or replace function _eram_handler_name(handler text)
    returns text
    language sql
    stable
    set search_path from current
as $$
    with recursive names (name, alias_of) as (
        select handler, null
        union all
        select handlers.alias_of, handlers.name
        from names
        join eram_handlers as handlers on handlers.name = names.name
        where handlers.alias_of is not null
    )
    select names.name
    from names
    where not exists (
        select
        from names as others
        where others.alias_of = names.name
    );
$$;

create or replace function _eram_check_handler_values(what text, options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if options is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s must not be null', what),
            hint = 'Pass an object such as {"max_attempts": 3}, or {} for none.';
    end if;
    perform _eram_check_object(what, options);
    perform _eram_check_keys(what, options, _eram_handler_keys());

    if options ? 'queue' then
        perform _eram_check_queue(_eram_read_text('queue', options -> 'queue'));
    end if;
    if options ? 'max_attempts' then
        perform _eram_check_max_attempts(
            _eram_read_integer('max_attempts', options -> 'max_attempts'));
    end if;
    if options ? 'priority' then
        perform _eram_check_priority(_eram_read_integer('priority', options -> 'priority'));
    end if;
    if options ? 'tags' then
        perform _eram_check_tags(_eram_read_tags(options -> 'tags'));
    end if;
    perform _eram_check_object('meta', options -> 'meta');
    if options ? 'backoff' then
        perform _eram_check_backoff(options -> 'backoff');
    end if;
    if options ? 'timeout' then
        perform _eram_check_timeout(_eram_read_interval('timeout', options -> 'timeout'));
    end if;
    if options ? 'unique' then
        perform _eram_check_unique_by(options -> 'unique');
    end if;
end;
$$;

-- Makes of both what holds, for a row that is locked.
create or replace function _eram_store_handler(handler text, declared jsonb, overrides jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_declared  jsonb := declared;
    v_overrides jsonb := overrides;
    v_options   jsonb := declared || overrides;
begin
    update eram_handlers as handlers
    set
        alias_of = null,
        queue = v_options ->> 'queue',
        priority = (v_options ->> 'priority')::smallint,
        max_attempts = (v_options ->> 'max_attempts')::integer,
        tags = case when v_options ? 'tags' then _eram_read_tags(v_options -> 'tags') end,
        meta = v_options -> 'meta',
        backoff = v_options -> 'backoff',
        timeout = case
            when v_options ? 'timeout' then _eram_read_interval('timeout', v_options -> 'timeout')
        end,
        unique_by = v_options -> 'unique',
        declared = v_declared,
        overrides = v_overrides
    where handlers.name = handler;
end;
$$;

-- Rows for all of these names, locked.
create or replace function _eram_lock_handlers(names text[])
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    insert into eram_handlers (name, declared, overrides)
    select distinct
        wanted.name,
        '{}'::jsonb,
        '{}'::jsonb
    from unnest(names) as wanted (name)
    order by wanted.name
    on conflict do nothing;

    perform
    from eram_handlers as handlers
    where handlers.name = any (names)
    order by handlers.name
    for update;
end;
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
    v_handler  text   := handler;
    v_aliases  text[] := coalesce(aliases, '{}');
    v_alias    text;
    v_declared jsonb;
    v_stored   eram_handlers;
    v_replaced jsonb;
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
    select handlers.* into v_stored
    from eram_handlers as handlers
    where handlers.name = v_handler;

    if v_stored.registered_at is not null
        and v_stored.alias_of is null
        and v_stored.declared = v_declared
        and array(
            select handlers.name
            from eram_handlers as handlers
            where handlers.alias_of = v_handler
            order by handlers.name collate "C"
        ) = array(
            select distinct wanted.name collate "C"
            from unnest(v_aliases) as wanted (name)
            order by wanted.name collate "C"
        )
    then
        return;
    end if;

    perform _eram_lock_handlers(v_handler || v_aliases);

    delete from eram_handlers as handlers
    where
        handlers.name in (
            select former.name
            from eram_handlers as former
            where former.alias_of = v_handler and former.name <> all (v_aliases)
            order by former.name
            for update
        );

    select handlers.* into v_stored
    from eram_handlers as handlers
    where handlers.name = v_handler;

    -- What an administrator has set for the former name holds for the new one.
    select handlers.overrides into v_replaced
    from eram_handlers as handlers
    where handlers.name = any (v_aliases) and handlers.overrides <> '{}'
    order by handlers.name
    limit 1;

    perform _eram_store_handler(
        v_handler,
        v_declared,
        case
            when v_stored.overrides = '{}' then coalesce(v_replaced, '{}')
            else v_stored.overrides
        end);
    update eram_handlers as handlers
    set registered_at = clock_timestamp()
    where handlers.name = v_handler;

    perform _eram_store_handler(wanted.name, '{}', '{}')
    from unnest(v_aliases) as wanted (name);
    update eram_handlers as handlers
    set
        alias_of = v_handler,
        registered_at = clock_timestamp()
    where handlers.name = any (v_aliases);
end;
$$;

comment on function eram_register_handler is
    'Declare what jobs of a handler have unless the producer, or an administrator by '
    'eram_set_handler(), says otherwise; null is the default of the queue. It replaces what was '
    'declared before; workers call it when they start. aliases are former names of the handler: '
    'jobs enqueued under these, already or in future, are run by it.';

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

    v_handler := _eram_handler_name(v_handler);
    perform _eram_lock_handlers(array[v_handler]);
    perform _eram_store_handler(v_handler, handlers.declared, v_overrides)
    from eram_handlers as handlers
    where handlers.name = v_handler;
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

    delete from eram_handlers as handlers
    where handlers.name in (
        select gone.name
        from eram_handlers as gone
        where gone.name = v_handler or gone.alias_of = v_handler
        order by gone.name
        for update
    );
    return found;
end;
$$;

comment on function eram_delete_handler is
    'Forget the defaults of a handler, and its aliases. A worker that knows it registers it again '
    'when it starts. Returns whether there was anything.';
