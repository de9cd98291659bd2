-- Jobs that wait, by queue. How it is done is chosen by how long the table is, and how full.

create or replace function _eram_count_waiting()
    returns table (
        queue           text,
        waiting_count   bigint,
        due_count       bigint,
        retryable_count bigint,
        oldest_due_at   timestamptz,
        is_estimate     boolean
    )
    language plpgsql
    stable
    set search_path from current
    set jit to off
as $$
declare
    -- Such a table is read whole.
    c_few_pages    constant bigint   := 1000;
    -- One with fewer rows a page is full of dead ones, or empty: it is read whole up to so many
    -- pages, for dead entries of an index cost ten times what dead rows do.
    c_few_rows     constant bigint   := 20;
    c_most_pages   constant bigint   := 50000;
    c_most_counted constant integer  := 10000;
    -- So many of a sample are from a dozen pages at least, and no accident.
    c_surely_many  constant bigint   := 2000;
    -- Entries of the index, for all queues together.
    c_most_walked  constant bigint   := 50000;
    c_many_dead    constant bigint   := 200000;
    c_table        constant regclass := 'eram_queued_jobs'::regclass;
    c_index        constant regclass := 'eram_queued_jobs_pkey'::regclass;
    v_share        double precision  := _eram_share(c_table, c_few_pages);
    v_walks        boolean           := true;
    v_walked_until bigint;
    v_queues       text[];
    v_waiting      bigint[];
    v_due          bigint[];
    v_retryable    bigint[];
    v_oldest       timestamptz[];
    v_place        record;
    v_most         integer;
    v_counted      record;
    v_due_counted  record;
begin
    if v_share < 1 then
        select
            coalesce(array_agg(sampled.queue), '{}'),
            array_agg(sampled.waiting_count),
            array_agg(sampled.due_count),
            array_agg(sampled.retryable_count),
            array_agg(sampled.oldest_due_at)
        into v_queues, v_waiting, v_due, v_retryable, v_oldest
        from _eram_read_waiting(v_share) as sampled;

        if coalesce((select sum(counts.count) from unnest(v_waiting) as counts (count)), 0)
            < c_few_rows * c_few_pages
        then
            v_share := case
                when _eram_unknown_pages(c_table) < c_most_pages
                then _eram_share(c_table, c_most_pages)
                else 1
            end;
            v_walks := v_share < 1 and pg_stat_get_dead_tuples(c_table) < c_many_dead;
            if v_walks then
                v_share := _eram_share(c_table, c_few_pages);
            end if;
        end if;
    end if;

    if v_share = 1 or not v_walks then
        return query
        select
            places.queue,
            round(places.waiting_count / v_share)::bigint,
            round(places.due_count / v_share)::bigint,
            round(places.retryable_count / v_share)::bigint,
            places.oldest_due_at,
            v_share < 1
        from _eram_read_waiting(v_share) as places;
        return;
    end if;

    -- Those of which the sample has the fewest come first, while entries may be walked.
    v_walked_until := pg_stat_get_xact_tuples_returned(c_index) + c_most_walked;
    for v_place in
        select
            names.queue,
            coalesce(sampled.waiting, 0) as waiting,
            coalesce(sampled.due, 0) as due,
            coalesce(sampled.retryable, 0) as retryable,
            sampled.oldest
        from unnest(_eram_waiting_queues(v_queues)) as names (queue)
        left join unnest(v_queues, v_waiting, v_due, v_retryable, v_oldest)
            as sampled (queue, waiting, due, retryable, oldest)
            on sampled.queue = names.queue
        order by waiting
    loop
        queue := v_place.queue;
        v_most := case
            when v_place.waiting < c_surely_many
                and pg_stat_get_xact_tuples_returned(c_index) < v_walked_until
            then c_most_counted + 1
            else 0
        end;
        select * into v_counted
        from _eram_count_first(v_place.queue, v_most);

        if v_most > 0 and v_counted.waiting_count <= c_most_counted then
            waiting_count := v_counted.waiting_count;
            due_count := v_counted.due_count;
            retryable_count := v_counted.retryable_count;
            oldest_due_at := v_counted.oldest_due_at;
            is_estimate := false;
            -- Another may have claimed the last one since.
            if waiting_count > 0 then
                return next;
            end if;
            continue;
        end if;

        waiting_count := greatest(
            v_counted.waiting_count, 1, round(v_place.waiting / v_share)::bigint);
        due_count := round(v_place.due / v_share);
        retryable_count := least(
            waiting_count,
            greatest(v_counted.retryable_count, round(v_place.retryable / v_share)::bigint));
        oldest_due_at := least(v_counted.oldest_due_at, v_place.oldest);
        is_estimate := true;

        -- Few may be due of many that wait. The first of each lane are walked to, unless there are
        -- as many dead ones before them, and enough of the sample are due to know by it.
        if pg_stat_get_xact_tuples_returned(c_index) < v_walked_until
            and (
                v_place.due < c_surely_many
                or pg_stat_get_dead_tuples(c_table) < c_many_dead
            )
        then
            select * into v_due_counted
            from _eram_count_due(
                v_place.queue,
                case when v_place.due < c_surely_many then c_most_counted + 1 else 1 end);

            due_count := case
                when v_place.due >= c_surely_many then due_count
                when v_due_counted.due_count <= c_most_counted then v_due_counted.due_count
                else greatest(v_due_counted.due_count, due_count)
            end;
            oldest_due_at := least(oldest_due_at, v_due_counted.oldest_due_at);
        end if;
        due_count := least(due_count, waiting_count);
        return next;
    end loop;
end;
$$;
