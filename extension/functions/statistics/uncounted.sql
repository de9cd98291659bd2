-- What has happened since the recorder counted last. What it has counted is known by the snapshot
-- that it noted: a row that was visible to it is counted, any other is not, whatever its time. So
-- what is committed late is counted late, and nothing twice.

-- Queues of which jobs were completed since then, and when the last was. Looked for from the end of
-- the index: what a prune removed is at the front, and stays there while an old snapshot is held.
create or replace function _eram_completing_queues(first_at timestamptz)
    returns table (queue text, newest_at timestamptz)
    language sql
    stable
    set search_path from current
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set enable_sort to off
    set jit to off
as $$
    with recursive places (queue, newest_at) as (
        (
            select
                completions.queue,
                completions.finalized_at
            from eram_completions as completions
            order by
                completions.queue desc,
                completions.finalized_at desc
            limit 1
        )
        union all
        select next.*
        from places
        cross join lateral (
            select
                completions.queue,
                completions.finalized_at
            from eram_completions as completions
            where completions.queue < places.queue
            order by
                completions.queue desc,
                completions.finalized_at desc
            limit 1
        ) as next
    )
    select
        places.queue,
        places.newest_at
    from places
    where places.newest_at >= first_at;
$$;

-- The same of jobs that were discarded or cancelled.
create or replace function _eram_ending_queues(first_at timestamptz)
    returns table (state text, queue text)
    language sql
    stable
    set search_path from current
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set enable_sort to off
    set jit to off
as $$
    with recursive places (state, queue, newest_at) as (
        (
            select
                finished.state,
                finished.queue,
                finished.finalized_at
            from eram_finished_jobs as finished
            where finished.state <> 'completed'
            order by
                finished.state desc,
                finished.queue desc,
                finished.finalized_at desc
            limit 1
        )
        union all
        select next.*
        from places
        cross join lateral (
            select
                finished.state,
                finished.queue,
                finished.finalized_at
            from eram_finished_jobs as finished
            where
                finished.state <> 'completed'
                and (finished.state, finished.queue) < (places.state, places.queue)
            order by
                finished.state desc,
                finished.queue desc,
                finished.finalized_at desc
            limit 1
        ) as next
    )
    select
        places.state,
        places.queue
    from places
    where places.newest_at >= first_at;
$$;

-- The id of the transaction that wrote a row: its xmin is the lower 32 bits, and no id is far away
-- from those of now.
create or replace function _eram_full_id(xmin xid)
    returns bigint
    language sql
    stable
    set search_path from current
as $$
    select tops.id - (tops.id - xmin::text::bigint & 4294967295)
    from (
        select pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 2147483648
    ) as tops (id);
$$;

-- From when on there may be something that is not counted, and what is. Without a recording, or in
-- a restored database, nothing of the last hour is. A row was restored if its table is another, or
-- if it names transactions later than the one that wrote it: a new server may give the same OIDs.
create or replace function _eram_last_recording(
    out first_at    timestamptz,
    out counted     pg_snapshot,
    out recorded_at timestamptz
)
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_nothing constant pg_snapshot := '1:1:';
    -- A transaction that stays open for longer after a completion is not counted.
    c_longest constant interval    := interval '1 minute';
    c_first   constant interval    := interval '1 hour';
begin
    select
        -- A clock that was set back has made it later than now.
        least(recordings.recorded_at, statement_timestamp()) - c_longest,
        recordings.snapshot,
        recordings.recorded_at
    into first_at, counted, recorded_at
    from eram_recordings as recordings
    where
        recordings.completions_oid = 'eram_completions'::regclass
        and pg_snapshot_xmin(recordings.snapshot)::text::bigint
            <= _eram_full_id(recordings.xmin);

    if not found then
        counted := c_nothing;
        select greatest(max(recordings.recorded_at), statement_timestamp() - c_first)
        into first_at
        from eram_recordings as recordings;
    end if;
end;
$$;

-- The snapshot of this statement, and the ids of this very transaction that were counted as well.
create or replace function _eram_counted_by_now(own_ids bigint[])
    returns pg_snapshot
    language sql
    stable
    set search_path from current
as $$
    select case
        when cardinality(own_ids) = 0 then snapshots.now
        else format(
            '%s:%s:%s',
            pg_snapshot_xmin(snapshots.now),
            highest.id + 1,
            array_to_string(
                array(
                    select pg_snapshot_xip(snapshots.now)::text::bigint
                    union all
                    select
                        generate_series(
                            pg_snapshot_xmax(snapshots.now)::text::bigint, highest.id)
                    except
                    select unnest(own_ids)
                    order by 1
                ),
                ','))::pg_snapshot
    end
    from (select pg_current_snapshot() as now) as snapshots
    cross join (select max(own.id) as id from unnest(own_ids) as own (id)) as highest;
$$;

-- By queue and minute, without what was removed on completion.
create or replace function _eram_uncounted(first_at timestamptz, counted pg_snapshot)
    returns table (
        queue           text,
        minute          timestamptz,
        completed_count bigint,
        failed_count    bigint,
        discarded_count bigint,
        cancelled_count bigint,
        own_ids         bigint[]
    )
    language sql
    stable
    set search_path from current
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set jit to off
as $$
    with ids as (
        select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next
    ),
    happened as (
        select
            completions.queue,
            completions.finalized_at as at,
            completions.xmin::text::bigint as xid,
            'completed' as what,
            cardinality(completions.ids) as count
        from _eram_completing_queues(first_at) as places
        cross join lateral (
            select
                completions.*,
                completions.xmin
            from eram_completions as completions
            where
                completions.queue = places.queue
                and completions.finalized_at >= first_at
                and completions.is_repeated is null
        ) as completions
        union all
        select
            -- Not a join, which could be planned the other way round.
            (
                select specs.queue
                from eram_job_specs as specs
                where specs.job_id = errors.job_id
            ),
            errors.errored_at,
            errors.xmin::text::bigint,
            'failed',
            1
        from eram_job_errors as errors
        where
            errors.errored_at >= first_at
            and errors.detail ->> 'type' is distinct from 'cancelled'
        union all
        select
            finished.queue,
            finished.finalized_at,
            finished.xmin::text::bigint,
            finished.state,
            1
        from _eram_ending_queues(first_at) as places
        cross join lateral (
            select
                finished.queue,
                finished.finalized_at,
                finished.state,
                finished.xmin
            from eram_finished_jobs as finished
            where
                finished.state <> 'completed'
                and finished.state = places.state
                and finished.queue = places.queue
                and finished.finalized_at >= first_at
        ) as finished
    )
    select
        happened.queue,
        date_trunc('minute', happened.at, 'UTC'),
        coalesce(sum(happened.count) filter (where happened.what = 'completed'), 0),
        coalesce(sum(happened.count) filter (where happened.what = 'failed'), 0),
        coalesce(sum(happened.count) filter (where happened.what = 'discarded'), 0),
        coalesce(sum(happened.count) filter (where happened.what = 'cancelled'), 0),
        -- What is seen and yet not before the end of the snapshot is of this very transaction.
        array_agg(distinct full_ids.id) filter (where full_ids.id >= ids.next)
    from happened
    cross join ids
    cross join lateral (
        -- A row's xmin is the lower 32 bits of its id, and no id is far away from those of now.
        select
            ids.next + 2147483648
            - (ids.next + 2147483648 - happened.xid & 4294967295) as id
    ) as full_ids
    where
        happened.queue is not null
        and not pg_visible_in_snapshot(full_ids.id::text::xid8, counted)
    group by 1, 2;
$$;
