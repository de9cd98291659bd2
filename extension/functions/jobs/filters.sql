-- Reading a bulk filter, and finding the jobs that match it. A filter is a JSON object whose keys
-- must all hold. What could widen it by mistake is refused: null, {}, empty lists, unknown keys;
-- who means all jobs says so.

create or replace function _eram_raise_filter(what text, value jsonb, wanted text, hint text)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s of filter must be %s, got %s', what, wanted, left(value::text, 100)),
        hint = hint;
end;
$$;

create or replace function _eram_read_filter_names(what text, value jsonb)
    returns text[]
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if jsonb_typeof(value) = 'string' then
        return array[value #>> '{}'];
    elsif jsonb_typeof(value) <> 'array'
        or value = '[]'
        or jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")')
    then
        perform _eram_raise_filter(
            what, value, 'a string or a list of strings',
            format('Leave %s out if any will do.', what));
    end if;
    return array(select jsonb_array_elements_text(value));
end;
$$;

create or replace function _eram_read_filter_ids(value jsonb)
    returns bigint[]
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_wanted constant text := 'a list of ids';
    c_hint   constant text := 'Pass ids as [1, 2]; eram_jobs shows them.';
begin
    if jsonb_typeof(value) <> 'array'
        or value = '[]'
        or jsonb_path_exists(value, 'strict $[*] ? (@.type() != "number")')
    then
        perform _eram_raise_filter('ids', value, c_wanted, c_hint);
    elsif exists (
        select
        from jsonb_array_elements(value) as elements (id)
        where
            elements.id::numeric <> trunc(elements.id::numeric)
            or abs(elements.id::numeric) > 9223372036854775807
    )
    then
        perform _eram_raise_filter('ids', value, c_wanted, c_hint);
    end if;
    return array(
        select elements.id::bigint
        from jsonb_array_elements(value) as elements (id)
    );
end;
$$;

create or replace function _eram_read_filter(
    filter       jsonb,
    out ids      bigint[],
    out states   text[],
    out queues   text[],
    out handlers text[],
    out tags     text[],
    out args     jsonb,
    out meta     jsonb,
    out before   timestamptz,
    out after    timestamptz
)
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_states constant text[] := array[
        'available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'];
    c_keys   constant text[] := array[
        'ids', 'state', 'queue', 'handler', 'tags', 'args', 'meta', 'before', 'after', 'all'];
    c_hint   constant text   := 'Say {"all": true} if you mean all jobs.';
    v_name   text;
begin
    if filter is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'filter must not be null',
            hint = c_hint;
    end if;
    perform _eram_check_object('filter', filter);
    perform _eram_check_keys('filter', filter, c_keys);

    if filter = '{}' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'filter must not be empty',
            hint = c_hint;
    elsif filter ? 'all' and filter <> '{"all": true}' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = '"all" must be true and the only key of filter',
            hint = 'Leave it out, or all others.';
    end if;

    if filter ? 'ids' then
        ids := _eram_read_filter_ids(filter -> 'ids');
    end if;

    if filter ? 'state' then
        states := _eram_read_filter_names('state', filter -> 'state');
        foreach v_name in array states loop
            if v_name <> all (c_states) then
                raise exception using
                    errcode = 'invalid_parameter_value',
                    message = format('unknown state "%s" in filter', left(v_name, 100)),
                    hint = format('Did you mean "%s"?', _eram_nearest(v_name, c_states));
            end if;
        end loop;
    end if;

    if filter ? 'queue' then
        queues := _eram_read_filter_names('queue', filter -> 'queue');
        perform _eram_check_queue(names.name)
        from unnest(queues) as names (name);
    end if;

    if filter ? 'handler' then
        handlers := _eram_read_filter_names('handler', filter -> 'handler');
        perform _eram_check_handler(names.name)
        from unnest(handlers) as names (name);
    end if;

    if filter ? 'tags' then
        if filter -> 'tags' in ('[]', 'null') then
            perform _eram_raise_filter(
                'tags', filter -> 'tags', 'a list of strings', 'Leave tags out if any will do.');
        end if;
        tags := _eram_read_tags(filter -> 'tags');
        perform _eram_check_tags(tags);
    end if;

    foreach v_name in array '{args,meta}'::text[] loop
        if filter ? v_name
            and (jsonb_typeof(filter -> v_name) <> 'object' or filter -> v_name = '{}')
        then
            perform _eram_raise_filter(
                v_name, filter -> v_name, 'a JSON object that is not empty',
                'Pass what they contain, such as {"to": "x"}.');
        end if;
    end loop;
    args := filter -> 'args';
    -- Every job's contains an empty object, and a job without any has none.
    meta := nullif(filter -> 'meta', '{}');

    foreach v_name in array '{before,after}'::text[] loop
        if filter -> v_name = 'null' then
            perform _eram_raise_filter(
                v_name, filter -> v_name, 'a time', format('Leave %s out.', v_name));
        end if;
    end loop;
    before := _eram_read_timestamp('before of filter', filter -> 'before');
    after := _eram_read_timestamp('after of filter', filter -> 'after');
end;
$$;

-- The jobs that match and are in one of these states, with the tickets that say so. With ids, only
-- out of these. Planned anew for each filter, so that what is not in it is not in the plan either:
-- a place that holds none of the states is not read, nor are the specs where the tickets will do.
create or replace function _eram_matching_jobs(
    filter jsonb,
    states text[],
    ids    bigint[] default null
)
    returns table (job_id bigint, place text, queue text, ticket tid)
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_custom_plan
    set enable_seqscan to on
    set enable_bitmapscan to on
    set enable_hashjoin to on
    set enable_mergejoin to on
    set jit to off
as $$
#variable_conflict use_column
declare
    c_ended    constant text[] := '{completed,discarded,cancelled}';
    v_wanted   record          := _eram_read_filter(filter);
    v_states   text[]          := states;
    v_queues   text[]          := v_wanted.queues;
    v_handlers text[]          := v_wanted.handlers;
    v_tags     text[]          := v_wanted.tags;
    v_args     jsonb           := v_wanted.args;
    v_meta     jsonb           := v_wanted.meta;
    v_before   timestamptz     := v_wanted.before;
    v_after    timestamptz     := v_wanted.after;
    v_ids      bigint[]        := coalesce(ids, v_wanted.ids);
    v_now      timestamptz     := statement_timestamp();
    v_is_any   boolean;
    v_ended    text[];
begin
    if v_wanted.states is not null then
        v_states := array(
            select unnest(v_states)
            intersect
            select unnest(v_wanted.states)
        );
    end if;
    v_is_any := v_states @> '{available,scheduled,retryable}';
    v_ended := array(
        select unnest(v_states)
        intersect
        select unnest(c_ended)
    );

    return query
    select queued.job_id, 'queued', queued.queue, queued.ctid
    from eram_queued_jobs as queued
    left join eram_job_specs as specs on specs.job_id = queued.job_id
    where
        v_states && '{available,scheduled,retryable}'
        and (
            v_is_any
            or 'available' = any (v_states) and queued.scheduled_at <= v_now
            or 'scheduled' = any (v_states) and queued.scheduled_at > v_now and queued.attempt = 0
            or 'retryable' = any (v_states) and queued.scheduled_at > v_now and queued.attempt > 0
        )
        and (v_before is null or queued.scheduled_at < v_before)
        and (v_after is null or queued.scheduled_at >= v_after)
        and (v_ids is null or queued.job_id = any (v_ids))
        and (v_queues is null or queued.queue = any (v_queues))
        and (v_handlers is null or specs.handler = any (v_handlers))
        and (v_tags is null or specs.tags @> v_tags)
        and (v_args is null or specs.args @> v_args)
        and (v_meta is null or specs.meta @> v_meta)
    union all
    select running.job_id, 'running', running.queue, running.ctid
    from eram_running_jobs as running
    left join eram_job_specs as specs on specs.job_id = running.job_id
    where
        'executing' = any (v_states)
        and (v_before is null or running.attempted_at < v_before)
        and (v_after is null or running.attempted_at >= v_after)
        and (v_ids is null or running.job_id = any (v_ids))
        and (v_queues is null or running.queue = any (v_queues))
        and (v_handlers is null or specs.handler = any (v_handlers))
        and (v_tags is null or specs.tags @> v_tags)
        and (v_args is null or specs.args @> v_args)
        and (v_meta is null or specs.meta @> v_meta)
    union all
    select finished.job_id, 'finished', finished.queue, finished.ctid
    from eram_finished_jobs as finished
    left join eram_job_specs as specs on specs.job_id = finished.job_id
    where
        v_states && c_ended
        and finished.state = any (v_ended)
        and (v_before is null or finished.finalized_at < v_before)
        and (v_after is null or finished.finalized_at >= v_after)
        and (v_ids is null or finished.job_id = any (v_ids))
        and (v_queues is null or finished.queue = any (v_queues))
        and (v_handlers is null or specs.handler = any (v_handlers))
        and (v_tags is null or specs.tags @> v_tags)
        and (v_args is null or specs.args @> v_args)
        and (v_meta is null or specs.meta @> v_meta);
end;
$$;
