-- Claiming. The best jobs of a queue by lane, time and id are locked, deleted from
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
    c_last_id    constant bigint   := 999999999999999999;
    c_second     constant bigint   := 1000000;
    c_full_gap   constant bigint   := 60 * c_second;
    c_front      constant bigint[] := array_fill(0::bigint, array[c_lanes]);
    v_queue      text              := queue;
    v_demand     integer           := demand;
    v_worker     bigint            := worker;
    v_start      timestamptz       := clock_timestamp();
    v_upto       timestamptz       := statement_timestamp();
    v_start_us   bigint            := extract(epoch from v_start) * c_second;
    v_upto_us    bigint            := extract(epoch from v_upto) * c_second;
    v_xmin       bigint            := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    v_is_fresh   boolean           := pg_current_xact_id_if_assigned() is null;
    v_room       integer;
    v_setting    text;
    v_cursor     bigint[];
    v_mark       bigint            := 0;
    v_swept_xmin bigint            := 0;
    v_noted_us   bigint            := 0;
    v_swept_us   bigint            := 0;
    v_full_us    bigint            := 0;
    v_sweep_cost bigint            := 0;
    v_full_cost  bigint            := 0;
    v_first_at   bigint[]          := c_front;
    v_first_id   bigint[]          := c_front;
    v_safe_at    bigint[]          := c_front;
    v_safe_id    bigint[]          := c_front;
    v_noted_at   bigint[]          := c_front;
    v_noted_id   bigint[]          := c_front;
    v_mode       text;
    v_from_at    bigint[];
    v_from_id    bigint[];
    v_count      integer           := 0;
    v_claim      record;
    v_passed     record;
begin
    if v_demand is null or v_demand < 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('demand must be at least 0, got %s', coalesce(v_demand::text, 'null')),
            hint = 'Pass the number of jobs that the worker can take.';
    end if;
    perform _eram_check_queue(v_queue);
    perform _eram_check_worker(v_worker);
    v_room := _eram_limit(v_queue);
    if v_demand > 0 and v_room > 0 then
        v_room := _eram_take_room(v_queue);
        v_start := clock_timestamp();
        v_start_us := extract(epoch from v_start) * c_second;
    end if;
    v_demand := least(v_demand, v_room);
    if v_demand = 0 then
        return;
    end if;

    v_setting := _eram_cursor_setting(v_queue);
    v_cursor := _eram_read_cursor(v_setting, v_start_us);
    if v_cursor is not null then
        v_mark := v_cursor[1];
        v_noted_us := v_cursor[2];
        v_swept_us := v_cursor[3];
        v_sweep_cost := v_cursor[4];
        v_full_us := v_cursor[5];
        v_full_cost := v_cursor[6];
        v_first_at := v_cursor[7:26];
        v_first_id := v_cursor[27:46];
        v_safe_at := v_cursor[47:66];
        v_safe_id := v_cursor[67:86];
        v_noted_at := v_cursor[87:106];
        v_noted_id := v_cursor[107:126];
        v_swept_xmin := v_cursor[127];
    end if;

    -- Sweeps take a twentieth of the time, full scans a hundredth.
    if v_start_us - v_full_us > greatest(c_full_gap, 100 * v_full_cost) then
        v_mode := 'full';
        v_from_at := c_front;
        v_from_id := c_front;
    elsif v_start_us - v_swept_us >= 20 * v_sweep_cost then
        v_mode := 'sweep';
        v_from_at := v_safe_at;
        v_from_id := v_safe_id;
    else
        v_mode := 'first';
        v_from_at := v_first_at;
        v_from_id := v_first_id;
    end if;

    for v_claim in
        with best as materialized (
            select tickets.place
            from unnest(v_from_at, v_from_id) with ordinality as lanes (from_at, from_id, number)
            cross join lateral (
                select queued.ctid as place
                from eram_queued_jobs as queued
                where
                    queued.queue = v_queue
                    and queued.lane = (lanes.number - 1)::smallint
                    and (queued.scheduled_at, queued.job_id)
                        > (
                            timestamptz 'epoch' + lanes.from_at * interval '1 microsecond',
                            lanes.from_id)
                    and queued.scheduled_at <= v_upto
                order by
                    queued.scheduled_at,
                    queued.job_id
                limit v_demand
                for update skip locked
            ) as tickets
            limit v_demand
        ),
        taken as (
            -- By an array of places, so that the plan can be nothing but a scan of these.
            delete from eram_queued_jobs as queued
            where queued.ctid = any (array(select best.place from best))
            returning queued.*
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
                taken.queue,
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
            row(
                taken.job_id,
                taken.run + 1,
                case
                    when (select has_alias.is_true from has_alias)
                    then _eram_handler_name(specs.handler)
                    else specs.handler
                end,
                specs.args,
                specs.meta,
                specs.tags,
                taken.queue,
                taken.lane / 2,
                taken.attempt + 1,
                specs.max_attempts,
                specs.inserted_at,
                taken.scheduled_at,
                v_start,
                specs.timeout
            )::eram_claimed_job as job,
            taken.lane
        from taken
        left join lateral (
            select *
            from eram_job_specs as specs
            where specs.job_id = taken.job_id
            limit 1
        ) as specs on true
        order by
            taken.lane,
            taken.scheduled_at,
            taken.job_id
    loop
        v_count := v_count + 1;
        return next v_claim.job;
    end loop;

    -- Where the first cursor stands now. Lanes read to their end stand at the start of this
    -- statement; the lane that the limit was reached in stands at its last job; the lanes after
    -- it were not read.
    if v_count < v_demand then
        v_first_at := array_fill(v_upto_us, array[c_lanes]);
        v_first_id := array_fill(c_last_id, array[c_lanes]);
    else
        v_first_at := array_fill(v_upto_us, array[v_claim.lane::integer])
            || (extract(epoch from (v_claim.job).scheduled_at) * c_second)::bigint
            || v_from_at[v_claim.lane + 2 : c_lanes];
        v_first_id := array_fill(c_last_id, array[v_claim.lane::integer])
            || (v_claim.job).id
            || v_from_id[v_claim.lane + 2 : c_lanes];
    end if;

    -- The id of a note is that of the next transaction: above every id that was there during
    -- the scan.
    if v_mark = -1 and v_is_fresh and (v_count > 0 or v_start_us - v_noted_us > c_second) then
        v_mark := pg_current_xact_id()::text::bigint;
    end if;

    if v_mode <> 'first' then
        if v_mark > 0 and v_xmin > v_mark then
            -- Every transaction of the time of the note has ended, and this scan has read again
            -- what they left: nothing can appear any more behind the lesser of the two. But what
            -- another claim had locked was passed over, and appears again if that is rolled back.
            for i in 1..c_lanes loop
                if (v_first_at[i], v_first_id[i]) < (v_noted_at[i], v_noted_id[i]) then
                    v_noted_at[i] := v_first_at[i];
                    v_noted_id[i] := v_first_id[i];
                end if;
            end loop;
            for v_passed in
                select
                    lanes.number,
                    tickets.scheduled_at,
                    tickets.job_id
                from unnest(v_safe_at, v_safe_id, v_noted_at, v_noted_id)
                    with ordinality as lanes (from_at, from_id, upto_at, upto_id, number)
                cross join lateral (
                    select
                        queued.scheduled_at,
                        queued.job_id
                    from eram_queued_jobs as queued
                    where
                        queued.queue = v_queue
                        and queued.lane = (lanes.number - 1)::smallint
                        and (queued.scheduled_at, queued.job_id)
                            > (
                                timestamptz 'epoch' + lanes.from_at * interval '1 microsecond',
                                lanes.from_id)
                        and (queued.scheduled_at, queued.job_id)
                            <= (
                                timestamptz 'epoch' + lanes.upto_at * interval '1 microsecond',
                                lanes.upto_id)
                    order by
                        queued.scheduled_at,
                        queued.job_id
                    limit 1
                ) as tickets
            loop
                v_noted_at[v_passed.number] := extract(epoch from v_passed.scheduled_at) * c_second;
                v_noted_id[v_passed.number] := v_passed.job_id - 1;
            end loop;
            v_safe_at := v_noted_at;
            v_safe_id := v_noted_id;
            v_mark := 0;
        end if;
        if v_mark = 0 and (v_count > 0 or v_start_us - v_noted_us > c_second) then
            v_noted_at := v_first_at;
            v_noted_id := v_first_id;
            v_noted_us := v_start_us;
            v_mark := -1;
        end if;
        v_swept_us := v_start_us;
        v_swept_xmin := v_xmin;
        v_sweep_cost := extract(epoch from clock_timestamp() - v_start) * c_second;
        if v_mode = 'full' then
            v_full_us := v_swept_us;
            v_full_cost := v_sweep_cost;
        end if;
    end if;

    perform set_config(
        v_setting,
        (
            array[v_mark, v_noted_us, v_swept_us, v_sweep_cost, v_full_us, v_full_cost]
            || v_first_at || v_first_id || v_safe_at || v_safe_id || v_noted_at || v_noted_id
            || v_swept_xmin
        )::text,
        false);
end;
$$;

comment on function eram_fetch is
    'Claim up to demand due jobs of a queue for a worker: by priority, then time, then id; what '
    'came back goes first in its priority. Commit the claim before running a job: one that is '
    'rolled back never was, and its run is handed out again. Returns the jobs claimed; no row '
    'when none is due, the queue is paused or its global limit is reached.';
