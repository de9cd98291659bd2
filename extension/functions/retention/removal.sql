-- Queues that keep no completed job, because their max_age is 0: the completion itself removes it.
-- All others pay for that with one look into eram_removals, which is empty then. It is a copy:
-- the row of the schedule, which changes with each of its runs, would be dear to read at each
-- completion while an old snapshot is held.

-- The queues that keep no completed job; the empty name, which no queue has, stands for those
-- without a setting of their own.
create or replace function _eram_removing_queues()
    returns text[]
    language plpgsql
    stable
    set search_path from current
as $$
begin
    return array(
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
end;
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

-- Completes, without a trace, those of the runs whose queue keeps no completed job. Part of
-- eram_complete_jobs(), under whose settings it is planned.
create or replace function _eram_remove_completed(ids bigint[], runs integer[], announces boolean)
    returns setof bigint
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_longest constant interval := interval '1 hour';
    v_ids         bigint[]      := ids;
    v_runs        integer[]     := runs;
    v_announces   boolean       := announces;
    v_queues      text[];
    v_removing    text[];
    v_removed     bigint[];
    v_removed_of  text[];
    v_retried     bigint[];
    v_last        record;
    v_keys        bytea[];
    v_keys_of     bigint[];
begin
    v_queues := array(
        select distinct running.queue
        from eram_running_jobs as running
        where running.job_id = any (v_ids));

    -- By the settings themselves: eram_removals may lag behind a schedule that was removed.
    v_removing := _eram_removing_queues();
    v_removing := array(
        select ours.queue
        from unnest(v_queues) as ours (queue)
        where
            case
                when exists (
                    select
                    from eram_queues as queues
                    where queues.name = ours.queue and queues.max_age ? 'completed'
                )
                then ours.queue
                else ''
            end = any (v_removing));
    if v_removing = '{}' then
        return;
    end if;

    if cardinality(v_removing) < cardinality(v_queues) then
        -- Others are completed afterwards. So all are locked, in order of id, before any is taken
        -- out.
        perform
        from eram_running_jobs as running
        where running.job_id = any (v_ids)
        order by running.job_id
        for update;
    end if;

    with removed as (
        -- In order of id, as in eram_complete_jobs().
        delete from eram_running_jobs as running
        where
            running.job_id = any (v_ids)
            and running.queue = any (v_removing)
            and case
                when (running.job_id, running.run) in (
                    select asked.job_id, asked.run
                    from unnest(v_ids, v_runs) as asked (job_id, run)
                )
                then true
            end
        returning running.job_id, running.run, running.unique_key, running.queue
    )
    select
        array_agg(removed.job_id),
        array_agg(removed.queue) filter (where v_announces or cardinality(v_removing) > 1),
        array_agg(removed.job_id) filter (where removed.run > 1),
        array_agg(removed.unique_key) filter (where removed.unique_key is not null),
        array_agg(removed.job_id) filter (where removed.unique_key is not null)
    into v_removed, v_removed_of, v_retried, v_keys, v_keys_of
    from removed;

    if v_keys is not null then
        perform _eram_release_keys(v_keys, v_keys_of, with_windows => false);
    end if;
    if v_announces then
        perform _eram_announce(removed.queue, array_agg(removed.job_id), 'completed')
        from unnest(v_removed, v_removed_of) as removed (job_id, queue)
        group by removed.queue;
    end if;

    delete from eram_job_specs as specs
    where specs.job_id = any (v_removed);
    -- For the recorder; but where none has been at work for an hour, this would pile up.
    select * into v_last
    from _eram_last_recording() as last
    where last.recorded_at > statement_timestamp() - c_longest;

    if v_last.recorded_at is not null and v_removed is not null then
        insert into eram_removal_counts (queue, finalized_at, job_count, failed_count)
        select
            removed.queue,
            clock_timestamp(),
            count(*),
            0
        from unnest(
            coalesce(v_removed_of, array_fill(v_removing[1], array[cardinality(v_removed)]))
        ) as removed (queue)
        group by removed.queue;
    end if;
    if v_retried is not null then
        -- The first run leaves no error when it completes.
        with forgotten as (
            delete from eram_job_errors as errors
            where errors.job_id = any (v_retried)
            returning
                errors.job_id,
                errors.errored_at,
                errors.detail ->> 'type' as type,
                _eram_full_id(errors.xmin)::text::xid8 as failed_by
        )
        insert into eram_removal_counts (queue, finalized_at, job_count, failed_count, failed_by)
        select
            coalesce(removed.queue, v_removing[1]),
            forgotten.errored_at,
            0,
            1,
            forgotten.failed_by
        from forgotten
        left join unnest(v_removed, v_removed_of) as removed (job_id, queue)
            on removed.job_id = forgotten.job_id
        where
            forgotten.errored_at >= v_last.first_at
            and v_last.recorded_at is not null
            and not pg_visible_in_snapshot(forgotten.failed_by, v_last.counted)
            and forgotten.type is distinct from 'cancelled';
    end if;
    return query
    select unnest(v_removed);
end;
$$;
