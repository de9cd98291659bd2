-- The fetch cursor: where in each lane of a queue the next claim begins (docs/architecture.md
-- explains why that is right). It is a hint, kept in a setting of the session: no write, no
-- lock, no contention, reverted by a rollback, and harmless behind a pooler, where another
-- client carries on with it.
--
-- The setting is a list of integers, times in microseconds since 1970:
--     1 mark      id that must have ended before "noted" becomes "safe"; 0 none, -1 wanted
--     2 noted_at  3 swept_at  4 sweep_cost  5 full_at  6 full_cost
--     7 xmin      below it, every transaction had ended when the last sweep began
--     8, 9, 10    how many positions "first", "safe" and "noted" have, from 1 to 20
-- and then these positions:
--     first       where the last claim of a lane ended
--     safe        behind it nothing can appear any more
--     noted       the first cursor as it was when it was noted
-- A position is a time and an id: everything up to there has been read. There is one for each
-- lane, and the last one is also that of all further lanes: a queue that uses one lane needs three
-- of them, one that was found empty a single one.

create or replace function _eram_cursor_setting(queue text)
    returns text
    language plpgsql
    stable
    set search_path from current
as $$
begin
    return 'eram.cursor_' || 'eram_queued_jobs'::regclass::oid || '_' || md5(queue);
end;
$$;

-- Anyone may write anything into a setting, and clocks are set back: what does not parse, or
-- lies in the future, is dropped, and the queue is read from the front.
create or replace function _eram_read_cursor(setting text, now_us bigint)
    returns bigint[]
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_header constant integer := 10;
    c_lanes  constant integer := 20;
    c_hour   constant bigint  := 3600000000;
    v_text   text             := current_setting(setting, true);
    v_cursor bigint[];
begin
    -- Without a backslash, which means another thing where standard_conforming_strings is off.
    if v_text is null or v_text !~ '^[{]-?[0-9]{1,18}(,[0-9]{1,18})*[}]$' then
        return null;
    end if;

    v_cursor := v_text::bigint[];
    if cardinality(v_cursor) < c_header
        or 1 > any (v_cursor[8:10])
        or c_lanes < any (v_cursor[8:10])
        or cardinality(v_cursor) <> c_header + 2 * (v_cursor[8] + v_cursor[9] + v_cursor[10])
        or v_cursor[2] > now_us
        -- No scan took longer than the time since it began, or than an hour.
        or v_cursor[4] not between 0 and least(now_us - v_cursor[3], c_hour)
        or v_cursor[6] not between 0 and least(now_us - v_cursor[5], c_hour)
    then
        return null;
    end if;

    for i in c_header + 1..cardinality(v_cursor) by 2 loop
        if v_cursor[i] > now_us then
            return null;
        end if;
    end loop;
    return v_cursor;
end;
$$;

-- The safe cursor once every transaction of the time of the note has ended, and a scan from the old
-- safe cursor has read again what they left: nothing can appear any more behind the lesser of the
-- note and of where that scan has ended. But what another claim had locked was passed over, and
-- appears again if that is rolled back. Part of eram_fetch(), under whose settings it is planned.
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
