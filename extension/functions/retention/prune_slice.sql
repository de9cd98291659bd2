-- One step of the prune: ticket, result, spec and errors of a job go together. Nothing here waits
-- for a job: what another transaction has locked is passed over and found again later. So whoever
-- changes a job that has ended locks its ticket first.

-- Removes at most so many jobs of one state and queue, the oldest first. Goes on at next_at, unless
-- is_last. What the recorder has not counted yet is left, if it is known what it has.
create or replace function _eram_prune_slice(
    state             text,
    queue             text,
    first_at          timestamptz,
    upto              timestamptz,
    most              integer,
    counted           pg_snapshot,
    out removed_count integer,
    out next_at       timestamptz,
    out is_last       boolean
)
    language plpgsql
    volatile
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_hashjoin to off
    set enable_mergejoin to off
    set enable_sort to off
    set jit to off
as $$
declare
    c_most_noted constant integer := 200;
    v_state      text             := state;
    v_queue      text             := queue;
    v_first_at   timestamptz      := first_at;
    v_upto       timestamptz      := upto;
    v_most       integer          := most;
    v_counted    pg_snapshot      := counted;
    -- See _eram_uncounted().
    v_top        bigint           :=
        pg_snapshot_xmax(counted)::text::bigint + 2147483648;
    v_completed  record;
    v_places     tid[]            := '{}';
    v_named      bigint[]         := '{}';
    v_ids        bigint[];
begin
    is_last := true;

    if v_state = 'completed' then
        for v_completed in
            select
                completions.ctid as place,
                completions.finalized_at,
                completions.ids
            from eram_completions as completions
            where
                completions.queue = v_queue
                and completions.finalized_at between v_first_at and v_upto
                and case
                    when v_counted is not null and completions.is_repeated is null
                    then pg_visible_in_snapshot(
                        (v_top - (v_top - completions.xmin::text::bigint & 4294967295))::text::xid8,
                        v_counted)
                    else true
                end
            order by completions.finalized_at
            for update skip locked
        loop
            v_places := v_places || v_completed.place;
            v_named := v_named || v_completed.ids;
            next_at := v_completed.finalized_at;
            is_last := cardinality(v_named) < v_most;
            exit when not is_last;
        end loop;

        delete from eram_completions as completions
        where completions.ctid = any (v_places);

        -- What is too many for this time, in parts that no later slice has to split again.
        insert into eram_completions (queue, finalized_at, ids, is_repeated)
        select
            v_queue,
            next_at,
            v_named[parts.first : parts.first + c_most_noted - 1],
            true
        from generate_series(v_most + 1, cardinality(v_named), c_most_noted) as parts (first);
        v_named := v_named[:v_most];

        v_ids := array(
            select finished.job_id
            from eram_finished_jobs as finished
            where
                finished.job_id = any (v_named)
                and finished.state = 'completed'
                and finished.finalized_at <= v_upto
            for update skip locked
        );
    else
        select
            array_agg(locked.job_id),
            max(locked.finalized_at)
        into v_ids, next_at
        from (
            select
                finished.job_id,
                finished.finalized_at
            from eram_finished_jobs as finished
            where
                finished.state = v_state
                and finished.state <> 'completed'
                and finished.queue = v_queue
                and finished.finalized_at between v_first_at and v_upto
                and case
                    when v_counted is not null
                    then pg_visible_in_snapshot(
                        (v_top - (v_top - finished.xmin::text::bigint & 4294967295))::text::xid8,
                        v_counted)
                    else true
                end
            order by finished.finalized_at
            limit v_most
            for update skip locked
        ) as locked;
        is_last := coalesce(cardinality(v_ids), 0) < v_most;
    end if;

    delete from eram_finished_jobs as finished
    where finished.job_id = any (v_ids);
    get diagnostics removed_count = row_count;
    delete from eram_job_specs as specs
    where specs.job_id = any (v_ids);
    delete from eram_job_errors as errors
    where errors.job_id = any (v_ids);

    -- What was named and is still there is in another's hands. It is named anew, as of now: nobody
    -- looks at it again this time.
    if cardinality(v_named) > removed_count then
        v_ids := array(
            select finished.job_id
            from eram_finished_jobs as finished
            where
                finished.job_id = any (v_named)
                and finished.state = 'completed'
                and finished.finalized_at <= v_upto
        );
        insert into eram_completions (queue, finalized_at, ids, is_repeated)
        select v_queue, clock_timestamp(), v_ids, true
        where cardinality(v_ids) > 0;
    end if;
end;
$$;
