-- Claiming. The best jobs of a queue by lane, time and id are locked; then they are deleted from
-- eram_queued_jobs and inserted into eram_running_jobs in one statement. Where a scan begins is
-- told by the fetch cursor; the proof that no job is passed over is in docs/architecture.md.
--
-- The planner must not depend on statistics here: they lag behind tables that fill and empty within
-- seconds. Hence one generic plan made of index scans, whatever it believes of the tables' sizes.

create or replace function eram_fetch(
    queue  text,
    demand integer,
    worker bigint
)
    returns setof eram_claimed_job
    language plpgsql
    volatile
    security definer
    rows 100
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    c_lanes      constant integer  := 20;
    c_second     constant bigint   := 1000000;
    c_brief_us   constant bigint   := 100000;
    c_full_gap   constant bigint   := 60 * c_second;
    c_header     constant integer  := 11;
    c_few        constant integer  := 10;
    c_cheap      constant interval := '1 millisecond';
    v_queue      text              := queue;
    v_demand     integer           := demand;
    v_worker     bigint            := worker;
    v_start      timestamptz       := clock_timestamp();
    v_upto       timestamptz       := statement_timestamp();
    v_start_us   bigint            := extract(epoch from v_start) * c_second;
    v_snapshot   pg_snapshot       := pg_current_snapshot();
    v_is_fresh   boolean           := pg_current_xact_id_if_assigned() is null;
    -- What _eram_cursor_setting() returns: to call it would cost a twentieth of a fetch.
    v_setting    text              :=
        'eram.cursor_' || 'eram_queued_jobs'::regclass::oid || '_' || md5(queue);
    v_cursor     bigint[]          := _eram_read_cursor(v_setting, v_start_us);
    v_is_alive   boolean;
    v_room       integer;
    v_from       bigint[]          := '{0,0}';
    v_mode       text              := 'full';
    v_count      integer;
    v_places     tid[];
begin
    if v_demand is null or v_demand < 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('demand must be at least 0, got %s', coalesce(v_demand::text, 'null')),
            hint = 'Pass the number of jobs that the worker can take.';
    end if;
    if v_cursor is null then
        -- Where there is a cursor, this was looked at when it was made.
        perform _eram_check_queue(v_queue);
    end if;

    -- As in _eram_check_worker(), but together with the look at the queue.
    v_is_alive := pg_advisory_xact_lock_shared(
        'eram_running_jobs'::regclass::oid::integer,
        _eram_worker_key(v_worker)) is not null;
    select
        workers.ended_at is null,
        (
            select case when not queues.is_paused then queues.global_limit else 0 end
            from eram_queues as queues
            where queues.name = v_queue
        )
    into v_is_alive, v_room
    from eram_workers as workers
    where workers.id = v_worker;
    if v_is_alive is not true then
        perform _eram_check_worker(v_worker);
    end if;
    if v_demand > 0 and v_room > 0 then
        v_room := _eram_take_room(v_queue);
        v_start := clock_timestamp();
        v_start_us := extract(epoch from v_start) * c_second;
    end if;
    v_demand := least(v_demand, v_room);
    if v_demand = 0 then
        return;
    end if;

    -- The first fetch of a session walks over all that was consumed. If it has its id before it
    -- looks and nobody else was writing, it is the only one that does.
    if v_cursor is null and v_is_fresh then
        perform pg_current_xact_id();
        v_snapshot := pg_current_snapshot();
        v_from := _eram_first_tickets(v_queue, v_upto);
    end if;

    -- Sweeps take a twentieth of the time, full scans a hundredth.
    if v_cursor is null or v_start_us - v_cursor[5] > greatest(c_full_gap, 100 * v_cursor[6]) then
        null;
    elsif v_start_us - v_cursor[3] >= 20 * v_cursor[4] then
        v_mode := 'sweep';
        v_from := v_cursor[
            c_header + 2 * v_cursor[9] + 1:c_header + 2 * (v_cursor[9] + v_cursor[10])];
    else
        v_mode := 'first';
        v_from := v_cursor[c_header + 1:c_header + 2 * v_cursor[9]];
    end if;

    -- Locking is a statement of its own: a fetch that finds nothing is spared the preparation of
    -- what follows. Whether it has read to the end is judged by what it has locked.
    select
        count(*),
        array_agg(best.place)
    into v_count, v_places
    from (
        select tickets.place
        from generate_series(0, c_lanes - 1) as lanes (lane)
        cross join lateral (
            select least(2 * lanes.lane + 1, cardinality(v_from) - 1) as below
        ) as places
        cross join lateral (
            select queued.ctid as place
            from eram_queued_jobs as queued
            where
                queued.queue = v_queue
                and queued.lane = lanes.lane::smallint
                and (queued.scheduled_at, queued.job_id)
                    > (
                        timestamptz 'epoch' + v_from[places.below] * interval '1 microsecond',
                        v_from[places.below + 1])
                and queued.scheduled_at <= v_upto
            order by
                queued.scheduled_at,
                queued.job_id
            limit v_demand
            for update skip locked
        ) as tickets
        limit v_demand
    ) as best;

    -- A cheap sweep that finds a few jobs soon after the last one does not move the cursor: to walk
    -- over them once more costs less. But a note that waits for its mark gets it, and of a scan
    -- that was no sweep eram_start_waiting() must know.
    if v_mode <> 'sweep'
        or clock_timestamp() - v_start > c_cheap
        or v_count not between 1 and c_few
        or v_start_us - v_cursor[3] > c_brief_us
        or v_cursor[1] = -1
    then
        perform _eram_move_cursor(
            v_queue, v_setting, v_cursor, v_mode, v_from, v_places, v_count < v_demand, v_start,
            v_upto, v_snapshot, v_is_fresh);
    end if;
    if v_count = 0 then
        return;
    end if;

    return query
    with taken as (
        -- By an array of places, so that the plan can be nothing but a scan of these.
        delete from eram_queued_jobs as queued
        where queued.ctid = any (v_places)
        returning
            queued.job_id,
            queued.scheduled_at,
            queued.run,
            queued.attempt,
            queued.lane,
            queued.unique_key
    ),
    started as (
        insert into eram_running_jobs
            (job_id, worker, attempted_at, run, attempt, lane, queue, unique_key)
        select
            taken.job_id,
            v_worker,
            v_start,
            taken.run + 1,
            taken.attempt + 1,
            taken.lane,
            v_queue,
            taken.unique_key
        from taken
    ),
    has_alias as (
        select exists (
            select
            from eram_handlers as handlers
            where handlers.alias_of is not null
        ) as is_true
    )
    select
        taken.job_id,
        taken.run + 1,
        case
            when (select has_alias.is_true from has_alias)
            then _eram_handler_name(specs.handler)
            else specs.handler
        end,
        specs.args,
        coalesce(specs.meta, '{}'),
        specs.tags,
        v_queue,
        taken.lane / 2,
        taken.attempt + 1,
        specs.max_attempts,
        specs.inserted_at,
        taken.scheduled_at,
        v_start,
        specs.timeout
    from (
        -- Sorted before the specs are there, which are not short.
        select *
        from taken
        order by
            taken.lane,
            taken.scheduled_at,
            taken.job_id
        offset 0
    ) as taken
    left join lateral (
        select *
        from eram_job_specs as specs
        where specs.job_id = taken.job_id
        limit 1
    ) as specs on true
    order by
        taken.lane,
        taken.scheduled_at,
        taken.job_id;
end;
$$;

comment on function eram_fetch is
    'Claim up to demand due jobs of a queue for a worker: by priority, then time, then id; what '
    'came back goes first in its priority. Commit the claim before running a job: one that is '
    'rolled back never was, and its run is handed out again. Returns the jobs claimed; no row '
    'when none is due, the queue is paused or its global limit is reached.';
