-- Up to where nothing can appear any more in the lanes of a queue: what the safe part of the fetch
-- cursor is made of (docs/architecture.md). Parts of eram_fetch(), under whose settings they are
-- planned.

-- Where the first ticket of each lane is that can be seen, locked or not. Where there is none,
-- everything has been read up to this time.
create or replace function _eram_first_tickets(queue text, upto timestamptz)
    returns bigint[]
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_lanes   constant integer  := 20;
    c_second  constant bigint   := 1000000;
    c_last_id constant bigint   := 999999999999999999;
    v_queue   text              := queue;
    v_upto    timestamptz       := upto;
    v_end     bigint[]          := array[(extract(epoch from upto) * c_second)::bigint, c_last_id];
    v_from    bigint[]          := '{}';
    v_ticket  record;
begin
    for v_ticket in
        select
            lanes.lane,
            (extract(epoch from tickets.scheduled_at) * c_second)::bigint as at,
            tickets.job_id - 1 as id
        from generate_series(0, c_lanes - 1) as lanes (lane)
        cross join lateral (
            select
                queued.scheduled_at,
                queued.job_id
            from eram_queued_jobs as queued
            where
                queued.queue = v_queue
                and queued.lane = lanes.lane::smallint
                and queued.scheduled_at <= v_upto
            order by
                queued.scheduled_at,
                queued.job_id
            limit 1
        ) as tickets
        order by lanes.lane
    loop
        while cardinality(v_from) < 2 * v_ticket.lane loop
            v_from := v_from || v_end;
        end loop;
        v_from := v_from || v_ticket.at || v_ticket.id;
    end loop;
    return case when cardinality(v_from) < 2 * c_lanes then v_from || v_end else v_from end;
end;
$$;

-- The safe cursor once every transaction of the time of the note has ended, and a scan from the old
-- safe cursor has read again what they left: nothing can appear any more behind the lesser of the
-- note and of where that scan has ended. But what another claim had locked was passed over, and
-- appears again if that is rolled back.
create or replace function _eram_safe_cursor(
    queue text,
    safe  bigint[],
    noted bigint[],
    first bigint[]
)
    returns bigint[]
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_lanes  constant integer := 20;
    c_second constant bigint  := 1000000;
    v_queue  text             := queue;
    v_safe   bigint[]         := safe;
    v_least  bigint[]         := '{}';
    v_passed record;
    v_place  integer;
    v_noted  integer;
    v_first  integer;
begin
    for i in 1..greatest(cardinality(noted), cardinality(first)) by 2 loop
        v_noted := least(i, cardinality(noted) - 1);
        v_first := least(i, cardinality(first) - 1);
        if (first[v_first], first[v_first + 1]) < (noted[v_noted], noted[v_noted + 1]) then
            v_least := v_least || first[v_first:v_first + 1];
        else
            v_least := v_least || noted[v_noted:v_noted + 1];
        end if;
    end loop;

    for v_passed in
        select
            places.upto as place,
            (extract(epoch from tickets.scheduled_at) * c_second)::bigint as at,
            tickets.job_id - 1 as id
        from generate_series(0, c_lanes - 1) as lanes (lane)
        cross join lateral (
            select
                least(2 * lanes.lane + 1, cardinality(v_safe) - 1) as below,
                least(2 * lanes.lane + 1, cardinality(v_least) - 1) as upto
        ) as places
        cross join lateral (
            select
                queued.scheduled_at,
                queued.job_id
            from eram_queued_jobs as queued
            where
                queued.queue = v_queue
                and queued.lane = lanes.lane::smallint
                and (queued.scheduled_at, queued.job_id)
                    > (
                        timestamptz 'epoch' + v_safe[places.below] * interval '1 microsecond',
                        v_safe[places.below + 1])
                and (queued.scheduled_at, queued.job_id)
                    <= (
                        timestamptz 'epoch' + v_least[places.upto] * interval '1 microsecond',
                        v_least[places.upto + 1])
            order by
                queued.scheduled_at,
                queued.job_id
            limit 1
        ) as tickets
    loop
        -- For all lanes that stand there.
        v_place := v_passed.place;
        if (v_passed.at, v_passed.id) < (v_least[v_place], v_least[v_place + 1]) then
            v_least[v_place] := v_passed.at;
            v_least[v_place + 1] := v_passed.id;
        end if;
    end loop;
    return v_least;
end;
$$;
