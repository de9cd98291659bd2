-- Moving waiting jobs to another queue. They keep their priority and their time, but nothing enters
-- a lane in the past: what is due is due as of now there, behind what was there before. (One that
-- is changed goes before the others; many would hold them up.) A unique key stays what it was.

create or replace function eram_move_jobs(
    filter jsonb,
    queue  text
)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    c_states constant text[] := '{available,scheduled,retryable}';
    v_filter jsonb           := filter;
    v_queue  text            := queue;
    v_wanted record;
    v_locked record;
    v_now    timestamptz;
    v_count  bigint;
begin
    perform _eram_check_queue(v_queue);
    perform pg_current_xact_id();

    select
        array_agg(matching.job_id order by matching.job_id) as ids,
        array_agg(matching.place order by matching.job_id) as places,
        array_agg(matching.ticket order by matching.job_id) as tickets
    into v_wanted
    from _eram_matching_jobs(v_filter, c_states) as matching
    where matching.queue <> v_queue;

    v_locked := _eram_lock_tickets(
        v_wanted.ids, v_wanted.places, v_wanted.tickets, v_filter, c_states);

    perform _eram_wake(v_queue);
    v_now := clock_timestamp();

    with moved as (
        delete from eram_queued_jobs as queued
        where
            queued.ctid = any (v_locked.queued)
            and queued.queue <> v_queue
        returning queued.*
    ),
    renamed as (
        update eram_job_specs as specs
        set queue = v_queue
        where specs.job_id = any (array(select moved.job_id from moved))
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    select
        moved.job_id,
        greatest(moved.scheduled_at, v_now),
        moved.run,
        moved.attempt,
        moved.lane,
        v_queue,
        moved.unique_key
    from moved;
    get diagnostics v_count = row_count;

    return v_count;
end;
$$;

comment on function eram_move_jobs is
    'Move the waiting jobs that match a filter (see eram_cancel_jobs) to another queue. They keep '
    'their priority, time and unique key; among jobs that are due they stand as those that came '
    'last. Returns how many were moved; those that were there already do not count.';
