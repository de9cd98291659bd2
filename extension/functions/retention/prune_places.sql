-- Where the prune begins: with the oldest of each state and queue. Found from the front of the
-- indexes, or remembered from the last time.

-- Where there is what has ended, by state and queue, and the time of the oldest: one descent of an
-- index for each.
create or replace function _eram_ended_places()
    returns table (state text, queue text, first_at timestamptz)
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
    with recursive completed (queue, first_at) as (
        (
            select
                completions.queue,
                completions.finalized_at
            from eram_completions as completions
            order by
                completions.queue,
                completions.finalized_at
            limit 1
        )
        union all
        select next.*
        from completed
        cross join lateral (
            select
                completions.queue,
                completions.finalized_at
            from eram_completions as completions
            where completions.queue > completed.queue
            order by
                completions.queue,
                completions.finalized_at
            limit 1
        ) as next
    ),
    others (state, queue, first_at) as (
        (
            select
                finished.state,
                finished.queue,
                finished.finalized_at
            from eram_finished_jobs as finished
            where finished.state <> 'completed'
            order by
                finished.state,
                finished.queue,
                finished.finalized_at
            limit 1
        )
        union all
        select next.*
        from others
        cross join lateral (
            select
                finished.state,
                finished.queue,
                finished.finalized_at
            from eram_finished_jobs as finished
            where
                finished.state <> 'completed'
                and (finished.state, finished.queue) > (others.state, others.queue)
            order by
                finished.state,
                finished.queue,
                finished.finalized_at
            limit 1
        ) as next
    )
    select 'completed', completed.queue, completed.first_at
    from completed
    union all
    select others.state, others.queue, others.first_at
    from others;
$$;

-- While an old snapshot is held, the entries of removed jobs stay at the front of the indexes, and
-- each look from there walks over all of them. So a session remembers how far it came, in a
-- setting: no write, reverted by a rollback, harmless behind a pooler. What appears behind (a late
-- commit, a removal that was rolled back) is found by the next look from the front. Such a look
-- takes a twentieth of the time, or whatever it takes when that is little.
create or replace function _eram_prune_setting()
    returns text
    language sql
    stable
    set search_path from current
as $$
    select 'eram.prune_' || 'eram_completions'::regclass::oid;
$$;

-- Anyone may write anything into a setting: what does not parse, or lies in the future, is dropped.
create or replace function _eram_read_prune_cursor(
    now              timestamptz,
    out looked_at    timestamptz,
    out cost         interval,
    out states       text[],
    out queues       text[],
    out positions    timestamptz[]
)
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_little constant interval := interval '10 milliseconds';
    c_hour   constant interval := interval '1 hour';
    v_cursor jsonb;
begin
    v_cursor := nullif(current_setting(_eram_prune_setting(), true), '');
    looked_at := v_cursor ->> 'looked_at';
    cost := v_cursor ->> 'cost';
    -- No look took longer than an hour.
    if cost between c_little and c_hour
        and now - looked_at >= cost
        and now - looked_at < 20 * cost
    then
        states := array(select jsonb_array_elements_text(v_cursor -> 'states'));
        queues := array(select jsonb_array_elements_text(v_cursor -> 'queues'));
        positions := array(
            select jsonb_array_elements_text(v_cursor -> 'positions')::timestamptz);
    end if;
exception
    when data_exception or statement_too_complex then
        states := null;
end;
$$;
