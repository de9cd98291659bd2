-- Queues that keep no completed job, because their max_age is 0: the completion itself removes it.
-- All others pay for that with one look into eram_removals, which is empty then. It is a copy:
-- the row of the schedule, which changes with each of its runs, would be dear to read at each
-- completion while an old snapshot is held.

-- The queues that keep no completed job; the empty name, which no queue has, stands for those
-- without a setting of their own.
create or replace function _eram_removing_queues()
    returns text[]
    language sql
    stable
    set search_path from current
as $$
    select array(
        select settings.queue
        from (
            select
                queues.name as queue,
                queues.max_age
            from eram_queues as queues
            where queues.max_age is not null
            union all
            select
                '',
                schedules.options -> 'max_age'
            from eram_schedules as schedules
            where schedules.name = 'eram:prune' and not schedules.is_paused
        ) as settings
        where _eram_cutoff(settings.max_age, 'completed', now()) = now());
$$;

-- Whoever changes a setting that can be 0 calls this after it; the prune does it as well, but waits
-- for no administrator's transaction.
create or replace function _eram_note_removals(may_wait boolean)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_class integer := 'eram_removals'::regclass::oid::integer;
begin
    if may_wait then
        perform pg_advisory_xact_lock(v_class, 0);
    elsif not pg_try_advisory_xact_lock(v_class, 0) then
        return;
    end if;

    -- Settings and copy are read in one statement, so that they are of one moment.
    delete from eram_removals as removals
    where removals.queue <> all (_eram_removing_queues());

    insert into eram_removals (queue)
    select queues.name
    from unnest(_eram_removing_queues()) as queues (name)
    where not exists (select from eram_removals as removals where removals.queue = queues.name)
    on conflict do nothing;
end;
$$;

-- Completes, without a trace, those of the runs whose queue keeps no completed job.
create or replace function _eram_remove_completed(ids bigint[], runs integer[])
    returns setof bigint
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
declare
    v_ids      bigint[]  := ids;
    v_runs     integer[] := runs;
    -- The settings themselves: eram_removals may lag behind a schedule that was removed.
    v_removing text[]    := _eram_removing_queues();
    v_removed  bigint[];
    v_keys     bytea[];
    v_queues   text[];
begin
    -- All of them, in order of id, before any is taken out.
    perform
    from eram_running_jobs as running
    where running.job_id = any (v_ids)
    order by running.job_id
    for update;

    with held as materialized (
        select running.place
        from unnest(v_ids, v_runs) as asked (job_id, run)
        cross join lateral (
            select
                running.ctid as place,
                running.queue
            from eram_running_jobs as running
            where
                running.job_id = asked.job_id
                and running.run = asked.run
            limit 1
        ) as running
        where
            case
                when exists (
                    select
                    from eram_queues as queues
                    where queues.name = running.queue and queues.max_age ? 'completed'
                )
                then running.queue
                else ''
            end = any (v_removing)
    ),
    removed as (
        delete from eram_running_jobs as running
        using held
        where running.ctid = held.place
        returning running.job_id, running.unique_key, running.queue
    )
    select
        array_agg(removed.job_id),
        array_agg(removed.unique_key),
        array_agg(removed.queue)
    into v_removed, v_keys, v_queues
    from removed;
    perform _eram_release_keys(v_keys, v_removed, with_windows => false);
    perform _eram_announce(removed.queue, array_agg(removed.job_id), 'completed')
    from unnest(v_removed, v_queues) as removed (job_id, queue)
    group by removed.queue;

    delete from eram_job_specs as specs
    where specs.job_id = any (v_removed);
    delete from eram_job_errors as errors
    where errors.job_id = any (v_removed);
    return query
    select unnest(v_removed);
end;
$$;
