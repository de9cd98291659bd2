-- Locking the tickets of many jobs: strictly in order of id, whatever places they are in, so that
-- two who act on many jobs never wait for each other. A ticket is never updated, so its address
-- says whether it is still the one that matched. One that was moved is looked for before any
-- further one is locked.

-- tickets[i] is that of ids[i] in places[i]; the ids ascend. A job that was moved is followed as
-- long as it matches the filter; without a filter it is passed over, and told as lost.
create or replace function _eram_lock_tickets(
    ids          bigint[],
    places       text[],
    tickets      tid[],
    filter       jsonb,
    states       text[],
    out queued   tid[],
    out running  tid[],
    out finished tid[],
    out lost     bigint[]
)
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
    v_ids     bigint[] := ids;
    v_places  text[]   := places;
    v_tickets tid[]    := tickets;
    v_ticket  record;
    -- Row by row as it is fetched: there is no other plan.
    c_tickets cursor for
        select
            wanted.job_id,
            wanted.place,
            wanted.ticket,
            coalesce(queued.is_there, running.is_there, finished.is_there) as is_there
        from unnest(v_ids, v_places, v_tickets) as wanted (job_id, place, ticket)
        left join lateral (
            select true as is_there
            from eram_queued_jobs as queued
            where
                wanted.place = 'queued'
                and queued.ctid = wanted.ticket
                and queued.job_id = wanted.job_id
            for update
        ) as queued on true
        left join lateral (
            select true as is_there
            from eram_running_jobs as running
            where
                wanted.place = 'running'
                and running.ctid = wanted.ticket
                and running.job_id = wanted.job_id
            for update
        ) as running on true
        left join lateral (
            select true as is_there
            from eram_finished_jobs as finished
            where
                wanted.place = 'finished'
                and finished.ctid = wanted.ticket
                and finished.job_id = wanted.job_id
            for update
        ) as finished on true;
begin
    queued := '{}';
    running := '{}';
    finished := '{}';
    lost := '{}';

    -- One at a time, for a loop over the query would lock some ahead.
    open c_tickets;
    loop
        fetch c_tickets into v_ticket;
        exit when not found;

        if v_ticket.is_there is null and filter is not null then
            v_ticket := _eram_follow_job(v_ticket.job_id, filter, states);
        end if;

        if v_ticket.is_there is null then
            lost := lost || v_ticket.job_id;
        elsif v_ticket.place = 'queued' then
            queued := queued || v_ticket.ticket;
        elsif v_ticket.place = 'running' then
            running := running || v_ticket.ticket;
        else
            finished := finished || v_ticket.ticket;
        end if;
    end loop;
    close c_tickets;
end;
$$;

-- Locks the ticket of a job where it is now, if it still matches.
create or replace function _eram_follow_job(
    id           bigint,
    filter       jsonb,
    states       text[],
    out job_id   bigint,
    out place    text,
    out ticket   tid,
    out is_there boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_id bigint := id;
begin
    job_id := v_id;

    for i in 1.._eram_most_looks() loop
        select
            matching.place,
            matching.ticket
        into place, ticket
        from _eram_matching_jobs(filter, states, array[v_id]) as matching;
        exit when not found;

        perform
        from eram_queued_jobs as queued
        where place = 'queued' and queued.ctid = ticket and queued.job_id = v_id
        for update;
        is_there := nullif(found, false);
        exit when is_there;

        perform
        from eram_running_jobs as running
        where place = 'running' and running.ctid = ticket and running.job_id = v_id
        for update;
        is_there := nullif(found, false);
        exit when is_there;

        perform
        from eram_finished_jobs as finished
        where place = 'finished' and finished.ctid = ticket and finished.job_id = v_id
        for update;
        is_there := nullif(found, false);
        exit when is_there;
    end loop;
end;
$$;

-- How often to look where a job is that is moved under one's hands.
create or replace function _eram_most_looks()
    returns integer
    language sql
    immutable
    set search_path from current
as $$
    select 1000;
$$;
