-- What has happened is added to minutes and totals. One records at a time, and nobody waits for it:
-- what one cannot count, the next will.

-- Counts what is not counted. With a sample, also how long jobs waited and took.
create or replace function _eram_record(sample integer)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_least_sample constant integer  := 10;
    c_most_sample  constant integer  := 1000;
    -- So long the last minute's rows are left, for whoever looks at the rate.
    c_left         constant interval := interval '1 minute';
    c_kept         constant interval := interval '2 hours';
    v_now          timestamptz;
    v_last         record;
    v_queues       text[];
    v_minutes      timestamptz[];
    v_completed    bigint[];
begin
    if not pg_try_advisory_xact_lock('eram_recordings'::regclass::oid::integer, 0) then
        return;
    end if;

    -- Not later than the snapshot that is counted by, which is old at the stricter levels.
    v_now := case
        when current_setting('transaction_isolation') in ('repeatable read', 'serializable')
        then transaction_timestamp()
        else clock_timestamp()
    end;
    select * into v_last
    from _eram_last_recording();

    -- One statement, so that what is counted is what the snapshot says.
    with removed as (
        delete from eram_removal_counts as removals
        where removals.finalized_at < v_now - c_left or removals.failed_by is not null
        returning removals.*
    ),
    uncounted as materialized (
        select uncounted.*
        from _eram_uncounted(v_last.first_at, v_last.counted) as uncounted
    ),
    counted as (
        select
            together.queue,
            together.minute,
            sum(together.completed_count)::bigint as completed_count,
            sum(together.failed_count)::bigint as failed_count,
            sum(together.discarded_count)::bigint as discarded_count,
            sum(together.cancelled_count)::bigint as cancelled_count,
            sum(together.seen_count)::bigint as seen_count
        from (
            select
                uncounted.queue,
                uncounted.minute,
                uncounted.completed_count,
                uncounted.failed_count,
                uncounted.discarded_count,
                uncounted.cancelled_count,
                uncounted.completed_count as seen_count
            from uncounted
            union all
            select
                removed.queue,
                date_trunc('minute', removed.finalized_at, 'UTC'),
                removed.job_count,
                removed.failed_count,
                0,
                0,
                0
            from removed
            where
                removed.failed_by is null
                or not pg_visible_in_snapshot(removed.failed_by, v_last.counted)
        ) as together
        group by
            together.queue,
            together.minute
    ),
    totals as (
        insert into eram_totals as totals (
            queue, completed_count, failed_count, discarded_count, cancelled_count, since)
        select
            counted.queue,
            sum(counted.completed_count),
            sum(counted.failed_count),
            sum(counted.discarded_count),
            sum(counted.cancelled_count),
            min(counted.minute)
        from counted
        group by counted.queue
        on conflict on constraint eram_totals_pkey do update
        set
            completed_count = totals.completed_count + excluded.completed_count,
            failed_count = totals.failed_count + excluded.failed_count,
            discarded_count = totals.discarded_count + excluded.discarded_count,
            cancelled_count = totals.cancelled_count + excluded.cancelled_count
    ),
    minutes as (
        insert into eram_minutes as minutes (
            queue, minute, completed_count, failed_count, discarded_count, cancelled_count)
        select
            counted.queue,
            counted.minute,
            counted.completed_count,
            counted.failed_count,
            counted.discarded_count,
            counted.cancelled_count
        from counted
        where counted.minute > v_now - c_kept
        on conflict on constraint eram_minutes_pkey do update
        set
            completed_count = minutes.completed_count + excluded.completed_count,
            failed_count = minutes.failed_count + excluded.failed_count,
            discarded_count = minutes.discarded_count + excluded.discarded_count,
            cancelled_count = minutes.cancelled_count + excluded.cancelled_count
    ),
    recorded as (
        insert into eram_recordings (completions_oid, recorded_at, snapshot)
        values (
            'eram_completions'::regclass,
            v_now,
            _eram_counted_by_now(
                array(select unnest(uncounted.own_ids) from uncounted)))
        on conflict on constraint eram_recordings_pkey do update
        set
            recorded_at = excluded.recorded_at,
            snapshot = excluded.snapshot
    )
    select
        coalesce(array_agg(counted.queue), '{}'),
        array_agg(counted.minute),
        array_agg(counted.seen_count)
    into v_queues, v_minutes, v_completed
    from counted
    where counted.seen_count > 0 and counted.minute > v_now - c_kept;

    delete from eram_recordings as recordings
    where recordings.completions_oid <> 'eram_completions'::regclass;
    delete from eram_minutes as minutes
    where minutes.minute < v_now - c_kept;

    if sample > 0 and v_queues <> '{}' then
        update eram_minutes as minutes
        set
            wait_times = _eram_merge_times(
                minutes.wait_times, minutes.wait_sample_count,
                times.wait_times, times.wait_count),
            run_times = _eram_merge_times(
                minutes.run_times, minutes.run_sample_count,
                times.run_times, times.run_count),
            wait_sample_count = minutes.wait_sample_count + times.wait_count,
            run_sample_count = minutes.run_sample_count + times.run_count
        from (
            -- The latest minutes, if there are too many for a sample of each.
            select
                given.*,
                least(
                    c_most_sample,
                    greatest(c_least_sample, sample / cardinality(v_queues))) as most
            from unnest(v_queues, v_minutes, v_completed) as given (queue, minute, count)
            order by given.minute desc
            limit greatest(1, sample / c_least_sample)
        ) as places
        cross join lateral _eram_sample_times(
            places.queue,
            greatest(places.minute, v_last.recorded_at),
            places.minute + interval '1 minute',
            places.most,
            places.count) as times
        where
            minutes.queue = places.queue
            and minutes.minute = places.minute
            and times.run_count > 0;
    end if;
end;
$$;
