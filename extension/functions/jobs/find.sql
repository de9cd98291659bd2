-- Finding jobs for people who look at them: page by page, the newest first, and never much at a
-- time, however many jobs there are. Where an index knows that only a few can match, all of these
-- are looked at. Otherwise the newest are, some at a time, and whoever wants to see further asks
-- again from where the last call has come to.

-- The next so many jobs below an id, of those places that can have what is wanted: how far they
-- reach, how many they are, and which of them can match.
create or replace function _eram_next_jobs(
    states   text[],
    queues   text[],
    handlers text[],
    tags     text[],
    args     jsonb,
    meta     jsonb,
    before   bigint,
    demand   integer,
    out last_id   bigint,
    out job_count bigint,
    out ids       bigint[]
)
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_custom_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
#variable_conflict use_column
declare
    v_states   text[]      := states;
    v_queues   text[]      := queues;
    v_handlers text[]      := handlers;
    v_tags     text[]      := tags;
    v_args     jsonb       := args;
    v_meta     jsonb       := meta;
    v_before   bigint      := before;
    v_now      timestamptz := statement_timestamp();
    v_is_any   boolean     :=
        v_handlers is null and v_tags is null and v_args is null and v_meta is null;
begin
    if v_states <@ '{available,scheduled,retryable}' then
        select
            min(looked.job_id),
            count(*),
            array_agg(looked.job_id) filter (
                where
                    (v_queues is null or looked.queue = any (v_queues))
                    and case
                        when looked.scheduled_at <= v_now then 'available'
                        when looked.attempt > 0 then 'retryable'
                        else 'scheduled'
                    end = any (v_states)
                    and (
                        v_is_any
                        or exists (
                            select
                            from eram_job_specs as specs
                            where
                                specs.job_id = looked.job_id
                                and (v_handlers is null or specs.handler = any (v_handlers))
                                and (v_tags is null or specs.tags @> v_tags)
                                and (v_args is null or specs.args @> v_args)
                                and (v_meta is null or specs.meta @> v_meta)
                        )
                    ))
        into last_id, job_count, ids
        from (
            select *
            from eram_queued_jobs as queued
            where queued.job_id < v_before
            order by queued.job_id desc
            limit demand
        ) as looked;
    elsif v_states <@ '{completed,discarded,cancelled}' then
        select
            min(looked.job_id),
            count(*),
            array_agg(looked.job_id) filter (
                where
                    (v_queues is null or looked.queue = any (v_queues))
                    and looked.state = any (v_states)
                    and (
                        v_is_any
                        or exists (
                            select
                            from eram_job_specs as specs
                            where
                                specs.job_id = looked.job_id
                                and (v_handlers is null or specs.handler = any (v_handlers))
                                and (v_tags is null or specs.tags @> v_tags)
                                and (v_args is null or specs.args @> v_args)
                                and (v_meta is null or specs.meta @> v_meta)
                        )
                    ))
        into last_id, job_count, ids
        from (
            select
                finished.job_id,
                finished.queue,
                finished.state
            from eram_finished_jobs as finished
            where finished.job_id < v_before
            order by finished.job_id desc
            limit demand
        ) as looked;
    else
        select
            min(looked.job_id),
            count(*),
            array_agg(looked.job_id) filter (
                where
                    (v_queues is null or looked.queue = any (v_queues))
                    and (v_handlers is null or looked.handler = any (v_handlers))
                    and (v_tags is null or looked.tags @> v_tags)
                    and (v_args is null or looked.args @> v_args)
                    and (v_meta is null or looked.meta @> v_meta))
        into last_id, job_count, ids
        from (
            select
                specs.job_id,
                specs.queue,
                specs.handler,
                specs.tags,
                specs.args,
                specs.meta
            from eram_job_specs as specs
            where specs.job_id < v_before
            order by specs.job_id desc
            limit demand
        ) as looked;
    end if;
end;
$$;

create or replace function eram_find_jobs(
    filter    jsonb,
    before    bigint default null,
    max_count integer default null,
    out ids         bigint[],
    out next_before bigint
)
    language plpgsql
    stable
    security definer
    set search_path from current
as $$
declare
    c_states constant text[]  := array[
        'available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'];
    -- So many can be looked at in a moment: when there are no more, at all of them.
    c_few    constant integer := 10000;
    c_most   constant integer := 100000;
    v_wanted record           := _eram_read_filter(filter);
    v_states text[]           := coalesce(v_wanted.states, c_states);
    v_before bigint           := coalesce(before, 9223372036854775807);
    v_limit  integer          := coalesce(max_count, 50);
    v_few    bigint[];
    v_found  bigint[];
    v_demand integer;
    v_looked integer          := 0;
    v_next   record;
begin
    if v_limit not between 1 and c_few then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('max_count must be between 1 and %s, got %s', c_few, v_limit),
            hint = 'Ask again with before, for more.';
    end if;

    v_few := coalesce(
        v_wanted.ids,
        _eram_few_jobs(v_states, v_wanted.queues, c_few),
        _eram_few_jobs_with(v_wanted.args, v_wanted.meta, c_few));
    if v_few is not null then
        v_few := array(select few.id from unnest(v_few) as few (id) where few.id < v_before);
        ids := array(
            select matching.job_id
            from _eram_matching_jobs(filter, v_states, v_few) as matching
            order by matching.job_id desc
            limit v_limit + 1
        );
        if cardinality(ids) > v_limit then
            ids := ids[:v_limit];
            next_before := ids[v_limit];
        end if;
        return;
    end if;

    ids := '{}';
    v_demand := least(greatest(200, 4 * v_limit), c_few);
    loop
        v_next := _eram_next_jobs(
            v_states, v_wanted.queues, v_wanted.handlers, v_wanted.tags, v_wanted.args,
            v_wanted.meta, v_before, v_demand);
        if v_next.ids is not null then
            v_found := array(
                select matching.job_id
                from _eram_matching_jobs(filter, v_states, v_next.ids) as matching
                order by matching.job_id desc
                limit v_limit - cardinality(ids)
            );
            ids := ids || v_found;
        end if;

        v_looked := v_looked + v_next.job_count;
        v_before := v_next.last_id;
        if cardinality(ids) = v_limit then
            next_before := ids[v_limit];
            exit;
        elsif v_next.job_count < v_demand then
            exit;
        elsif v_looked >= c_most then
            next_before := v_before;
            exit;
        end if;
        v_demand := least(4 * v_demand, c_few);
    end loop;
end;
$$;

comment on function eram_find_jobs is
    'Find jobs that match a filter (see eram_cancel_jobs), the newest first, max_count of them at '
    'most (default 50). Returns their ids, and in next_before what to pass as before for the next '
    'ones; null when there are none. Looks at no more than some 100,000 jobs: where few match, and '
    'no index finds them, it returns less than max_count, or nothing, and next_before says how far '
    'it has looked. The rows are in eram_latest_jobs; in one statement both see the same moment.';
