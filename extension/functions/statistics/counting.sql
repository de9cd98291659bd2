-- How many jobs wait and run, by queue, at a cost that does not grow with them. Tables are read
-- whole while they are short, dead rows and all: that is cheaper than to walk an index over them.
-- Of a long table some pages are read, each as likely as any other, and what they hold is taken
-- for its share of the whole; but what may be few is counted, by the order of claiming.

create or replace function _eram_page_count(relation regclass)
    returns bigint
    language sql
    volatile
    set search_path from current
as $$
    select pg_relation_size(relation) / current_setting('block_size')::bigint;
$$;

-- Pages that came after the last vacuum. Where hardly a row is to be seen, they are full of what is
-- not committed, perhaps. To read that is cheaper than to pass over each entry of it in an index.
create or replace function _eram_unknown_pages(relation regclass)
    returns bigint
    language sql
    volatile
    set search_path from current
as $$
    select _eram_page_count(relation) - classes.relpages
    from pg_catalog.pg_class as classes
    where classes.oid = relation;
$$;

-- What share of a table is read: all of it, up to so many pages.
create or replace function _eram_share(relation regclass, most_pages bigint)
    returns double precision
    language sql
    volatile
    set search_path from current
as $$
    select least(1, most_pages::double precision / greatest(_eram_page_count(relation), 1));
$$;

-- How many pages of other tables are read at most: some 100 ms of dead rows.
create or replace function _eram_most_pages()
    returns bigint
    language sql
    immutable
    set search_path from current
as $$
    select 15000;
$$;

-- The names of the queues in which jobs wait. Ranges of names that are known to be there are not
-- walked through again.
create or replace function _eram_waiting_queues(known text[])
    returns text[]
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_sort to off
    set jit to off
as $$
declare
    v_names text[] := known;
    v_last  text   := '';
    v_known text;
    v_found text;
begin
    for v_known in
        select names.name
        from unnest(known || null::text) as names (name)
        order by names.name nulls last
    loop
        loop
            if v_known is null then
                select queued.queue into v_found
                from eram_queued_jobs as queued
                where queued.queue > v_last
                order by
                    queued.queue,
                    queued.lane,
                    queued.scheduled_at,
                    queued.job_id
                limit 1;
            else
                select queued.queue into v_found
                from eram_queued_jobs as queued
                where queued.queue > v_last and queued.queue < v_known
                order by
                    queued.queue,
                    queued.lane,
                    queued.scheduled_at,
                    queued.job_id
                limit 1;
            end if;
            exit when v_found is null;
            v_names := v_names || v_found;
            v_last := v_found;
        end loop;
        v_last := v_known;
    end loop;
    return v_names;
end;
$$;

-- Up to so many jobs of a queue, in the order of claiming.
create or replace function _eram_count_first(
    queue               text,
    most                integer,
    out waiting_count   bigint,
    out due_count       bigint,
    out retryable_count bigint,
    out oldest_due_at   timestamptz
)
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_sort to off
    set jit to off
as $$
declare
    v_queue text        := queue;
    v_now   timestamptz := statement_timestamp();
begin
    select
        count(*),
        count(*) filter (where first.scheduled_at <= v_now),
        count(*) filter (where first.attempt > 0),
        min(first.scheduled_at) filter (where first.scheduled_at <= v_now)
    into waiting_count, due_count, retryable_count, oldest_due_at
    from (
        select
            queued.scheduled_at,
            queued.attempt
        from eram_queued_jobs as queued
        where queued.queue = v_queue
        order by
            queued.lane,
            queued.scheduled_at,
            queued.job_id
        limit most
    ) as first;
end;
$$;

-- Of each lane of a queue up to so many due jobs, the oldest first.
create or replace function _eram_count_due(
    queue             text,
    most              integer,
    out due_count     bigint,
    out oldest_due_at timestamptz
)
    language plpgsql
    stable
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set enable_sort to off
    set jit to off
as $$
declare
    c_last_lane constant integer     := 19;
    v_queue              text        := queue;
    v_now                timestamptz := statement_timestamp();
    v_due                record;
begin
    due_count := 0;
    for v_lane in 0..c_last_lane loop
        select
            count(*) as count,
            min(first.scheduled_at) as oldest_at
        into v_due
        from (
            select queued.scheduled_at
            from eram_queued_jobs as queued
            where
                queued.queue = v_queue
                and queued.lane = v_lane::smallint
                and queued.scheduled_at <= v_now
            order by
                queued.scheduled_at,
                queued.job_id
            limit most
        ) as first;

        due_count := due_count + v_due.count;
        oldest_due_at := least(oldest_due_at, v_due.oldest_at);
    end loop;
end;
$$;

-- What is in a share of the pages, by queue.
create or replace function _eram_read_waiting(share double precision)
    returns table (
        queue           text,
        waiting_count   bigint,
        due_count       bigint,
        retryable_count bigint,
        oldest_due_at   timestamptz
    )
    language sql
    stable
    set search_path from current
    set jit to off
as $$
    select
        queued.queue,
        count(*),
        count(*) filter (where queued.scheduled_at <= statement_timestamp()),
        count(*) filter (where queued.attempt > 0),
        min(queued.scheduled_at) filter (where queued.scheduled_at <= statement_timestamp())
    from eram_queued_jobs as queued tablesample system (100 * share)
    group by queued.queue;
$$;
