-- Removing jobs that ended long enough ago, most overdue queue first, in slices. Completed jobs are
-- found by eram_completions, the others by an index of their own, each from its oldest end.
-- Any number of callers may do this at once.

create or replace function _eram_default_prune_limit()
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select 10000;
$$;

create or replace function _eram_prune_workers()
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_max_age constant interval := interval '7 days';
    v_ids     bigint[];
begin
    v_ids := array(
        select workers.id
        from eram_workers as workers
        where workers.ended_at < clock_timestamp() - c_max_age
        order by workers.id
        limit 1000
        for update skip locked
    );
    delete from eram_cancelled_runs as cancelled
    where cancelled.worker = any (v_ids);
    delete from eram_workers as workers
    where workers.id = any (v_ids);
end;
$$;

-- Not at once, because whoever enqueues may be taking one over. Returns how many were removed.
create or replace function _eram_prune_keys(max_count integer)
    returns integer
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
as $$
declare
    c_max_age constant interval := interval '1 minute';
    v_keys    bytea[];
begin
    v_keys := array(
        select keys.key
        from eram_unique_keys as keys
        where keys.expires_at < clock_timestamp() - c_max_age
        order by keys.expires_at
        limit max_count
        for update skip locked
    );
    delete from eram_unique_keys as keys
    where keys.key = any (v_keys);
    return cardinality(v_keys);
end;
$$;

-- Removes what has been kept long enough, the most overdue queue first. Within a budget of time it
-- may begin where the session came to the last time, without one it begins at the front.
create or replace function _eram_prune(
    max_age          jsonb,
    max_count        integer,
    budget           interval,
    counted          pg_snapshot default null,
    out pruned_count bigint,
    out is_partial   boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_slice     constant integer := 1000;
    c_keys      constant integer := 10000;
    c_states    constant text[]  := '{completed,cancelled,discarded}';
    v_now       timestamptz      := clock_timestamp();
    v_cursor    record;
    v_looked_at timestamptz;
    v_cost      interval;
    v_states    text[];
    v_queues    text[];
    v_positions timestamptz[];
    v_cutoffs   timestamptz[];
    v_general   timestamptz[];
    v_slice     record;
    v_more_keys boolean;
begin
    pruned_count := 0;
    is_partial := false;
    perform _eram_prune_workers();
    v_more_keys := _eram_prune_keys(c_keys) >= c_keys;

    if budget is not null then
        select * into v_cursor
        from _eram_read_prune_cursor(v_now);
        v_looked_at := v_cursor.looked_at;
        v_cost := v_cursor.cost;
        v_states := v_cursor.states;
        v_queues := v_cursor.queues;
        v_positions := v_cursor.positions;
    end if;

    if v_states is null then
        select
            array_agg(places.state),
            array_agg(places.queue),
            array_agg(places.first_at)
        into v_states, v_queues, v_positions
        from _eram_ended_places() as places;
        v_looked_at := v_now;
        v_cost := clock_timestamp() - v_now;
    end if;

    v_general := array(
        select coalesce(
            _eram_cutoff(max_age, states.name, v_now),
            _eram_cutoff(_eram_default_max_age(), states.name, v_now))
        from unnest(c_states) as states (name)
    );

    -- As numbers, because infinite times cannot be subtracted.
    select
        array_agg(places.state order by places.overdue desc),
        array_agg(places.queue order by places.overdue desc),
        array_agg(places.position order by places.overdue desc),
        array_agg(places.cutoff order by places.overdue desc)
    into v_states, v_queues, v_positions, v_cutoffs
    from (
        select
            known.*,
            cutoffs.cutoff,
            extract(epoch from cutoffs.cutoff) - extract(epoch from known.position) as overdue
        from unnest(v_states, v_queues, v_positions) as known (state, queue, position)
        left join eram_queues as queues on queues.name = known.queue
        cross join lateral (
            select coalesce(
                _eram_cutoff(queues.max_age, known.state, v_now),
                v_general[array_position(c_states, known.state)])
        ) as cutoffs (cutoff)
    ) as places;

    for i in 1..coalesce(cardinality(v_queues), 0) loop
        exit when is_partial;
        while v_positions[i] <= v_cutoffs[i] loop
            select * into v_slice
            from _eram_prune_slice(
                v_states[i],
                v_queues[i],
                v_positions[i],
                v_cutoffs[i],
                least(c_slice, max_count - pruned_count)::integer,
                counted);

            pruned_count := pruned_count + v_slice.removed_count;
            v_positions[i] := coalesce(v_slice.next_at, v_positions[i]);
            is_partial := pruned_count >= max_count
                or coalesce(clock_timestamp() - v_now > budget, false);
            exit when is_partial or v_slice.is_last;
        end loop;
    end loop;
    is_partial := is_partial or v_more_keys;

    if budget is not null then
        perform set_config(
            _eram_prune_setting(),
            jsonb_build_object(
                'looked_at', v_looked_at,
                'cost', extract(epoch from v_cost),
                'states', v_states,
                'queues', v_queues,
                'positions', v_positions
            )::text,
            false);
    end if;
end;
$$;

-- What the schedule "eram:prune" does. Returns whether there may be more to do at once.
create or replace function _eram_run_prune(options jsonb)
    returns boolean
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_budget constant interval := interval '500 milliseconds';
    v_pruned record;
begin
    perform _eram_note_removals(may_wait => false);

    select * into v_pruned
    from _eram_prune(
        options -> 'max_age',
        coalesce(
            _eram_read_integer('limit', coalesce(options -> 'limit', 'null')),
            _eram_default_prune_limit()),
        c_budget,
        _eram_record_before_prune());
    return v_pruned.is_partial;
end;
$$;

create or replace function eram_prune_jobs(
    max_age   interval default null,
    max_count integer  default 10000
)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set intervalstyle to postgres
as $$
declare
    v_max_age   jsonb;
    v_max_count integer := coalesce(max_count, _eram_default_prune_limit());
    v_pruned    record;
begin
    perform _eram_check_prune_limit('max_count', v_max_count);
    if max_age is not null then
        perform _eram_check_delay('max_age', max_age);
        v_max_age := to_jsonb(max_age::text);
    else
        select schedules.options -> 'max_age' into v_max_age
        from eram_schedules as schedules
        where schedules.name = 'eram:prune';
    end if;

    select * into v_pruned
    from _eram_prune(v_max_age, v_max_count, null, _eram_record_before_prune());
    return v_pruned.pruned_count;
end;
$$;

comment on function eram_prune_jobs is
    'Remove jobs that ended longer than max_age ago, max_count of them at most, the oldest first; '
    'null is what the schedule eram:prune has. A queue''s own max_age holds whatever is passed '
    'here. Returns how many were removed; as many as max_count means that there may be more.';
