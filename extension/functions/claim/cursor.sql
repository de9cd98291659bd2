-- The fetch cursor: where in each lane of a queue the next claim begins (docs/architecture.md
-- explains why that is right). It is a hint, kept in a setting of the session: no write, no
-- lock, no contention, reverted by a rollback, and harmless behind a pooler, where another
-- client carries on with it.
--
-- The setting is a list of integers, times in microseconds since 1970:
--     1 mark      id that must have ended before "noted" becomes "safe"; 0 none, -1 wanted
--     2 noted_at  3 swept_at  4 sweep_cost  5 full_at  6 full_cost
--     7 xmin      below it, every transaction had ended when the last sweep began
--     8 moved_at  when this was written
--     9, 10, 11   how many positions "first", "safe" and "noted" have, from 1 to 20
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

-- Anyone may write anything into a setting, and clocks are set back: what does not parse, or was
-- written in the future, is dropped, and the queue is read from the front. Null then.
create or replace function _eram_read_cursor(setting text, now_us bigint)
    returns bigint[]
    language plpgsql
    stable
    set search_path from current
as $$
declare
    c_header constant integer := 11;
    c_lanes  constant integer := 20;
    -- As much as _eram_move_cursor() writes.
    c_sweep  constant bigint  := 30000000;
    c_full   constant bigint  := 6000000;
    v_text   text             := current_setting(setting, true);
    v_cursor bigint[];
begin
    -- Without a backslash, which means another thing where standard_conforming_strings is off.
    if v_text is null or v_text !~ '^[{]-?[0-9]{1,18}(,[0-9]{1,18})*[}]$' then
        return null;
    end if;

    v_cursor := v_text::bigint[];
    if cardinality(v_cursor) < c_header
        or 1 > any (v_cursor[9:11])
        or c_lanes < any (v_cursor[9:11])
        or cardinality(v_cursor) <> c_header + 2 * (v_cursor[9] + v_cursor[10] + v_cursor[11])
        or v_cursor[1] < -1
        or v_cursor[8] > now_us
        or v_cursor[2] > now_us
        or v_cursor[3] > now_us
        -- Of a dearer one than the last, maybe: what a sweep costs is forgotten step by step.
        or v_cursor[4] not between 0 and c_sweep
        -- No scan took longer than the time since it began.
        or v_cursor[6] not between 0 and least(now_us - v_cursor[5], c_full)
    then
        return null;
    end if;
    return v_cursor;
end;
$$;

-- Move the cursor after a scan of eram_fetch(), under whose settings this is planned: places is
-- what the scan has locked, and is_end whether it has read to the end.
create or replace function _eram_move_cursor(
    queue    text,
    setting  text,
    cursor   bigint[],
    mode     text,
    origin   bigint[],
    places   tid[],
    is_end   boolean,
    begun_at timestamptz,
    upto     timestamptz,
    snapshot pg_snapshot,
    is_fresh boolean
)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_lanes   constant integer := 20;
    c_header  constant integer := 11;
    c_last_id constant bigint  := 999999999999999999;
    c_second  constant bigint  := 1000000;
    c_dear    constant bigint  := 10000;
    c_least   constant bigint  := 1000;
    -- Whatever they cost, both are made every ten minutes.
    c_sweep   constant bigint  := 30000000;
    c_full    constant bigint  := 6000000;
    v_now_us  bigint           := extract(epoch from begun_at) * c_second;
    v_upto_us bigint           := extract(epoch from upto) * c_second;
    v_old     bigint[]         := coalesce(cursor, '{0,0,0,0,0,0,0,0,1,1,1,0,0,0,0,0,0}');
    v_head    bigint[]         := v_old[:8];
    v_end     integer          := c_header + 2 * (v_old[9] + v_old[10]);
    v_safe    bigint[]         := v_old[c_header + 2 * v_old[9] + 1:v_end];
    v_noted   bigint[]         := v_old[v_end + 1:];
    v_first   bigint[]         := '{}';
    v_notes   boolean;
    v_xmin    bigint;
    v_cost    bigint;
    v_last    record;
begin
    -- Lanes read to their end stand at the start of the fetch; the lane that the limit was reached
    -- in stands at its last job; the lanes after it were not read.
    if is_end then
        v_first := array[v_upto_us, c_last_id];
    else
        select queued.lane, queued.scheduled_at, queued.job_id into v_last
        from eram_queued_jobs as queued
        where queued.ctid = places[cardinality(places)];

        for i in 1..v_last.lane loop
            v_first := v_first || v_upto_us || c_last_id;
        end loop;
        v_first := v_first
            || (extract(epoch from v_last.scheduled_at) * c_second)::bigint
            || v_last.job_id;
        if v_last.lane < c_lanes - 1 then
            v_first := v_first || origin[least(2 * v_last.lane + 3, cardinality(origin) - 1):];
        end if;
    end if;

    -- The id of a note is that of the next transaction: above every id that was there during the
    -- scan. Who looks in vain notes nothing, for it would take an id, unless sweeps have become
    -- dear: others have claimed what they walk over. But the first scan of a session has an id that
    -- is older than the scan: whoever began later has read the clock later.
    v_notes := places is not null or v_head[4] > c_dear and v_now_us - v_head[2] > c_second;
    if cursor is null and is_fresh then
        if pg_snapshot_xmin(snapshot) >= pg_current_xact_id() then
            v_safe := origin;
        else
            v_head[1:2] := array[pg_current_xact_id()::text::bigint, v_now_us];
            v_noted := v_first;
        end if;
    elsif v_head[1] = -1 and v_notes and is_fresh then
        v_head[1] := pg_current_xact_id()::text::bigint;
    end if;

    -- Here ends what a foreign hand can do: a mark or a safe cursor that is still to come.
    if mode = 'full'
        and (
            v_old[1] > pg_snapshot_xmax(snapshot)::text::bigint
            or exists (
                select
                from unnest(v_safe) with ordinality as numbers (number, place)
                where numbers.place % 2 = 1 and numbers.number > v_now_us
            )
        )
    then
        v_head[1] := 0;
        v_safe := '{0,0}';
    end if;

    if mode <> 'first' then
        v_xmin := pg_snapshot_xmin(snapshot)::text::bigint;
        if v_head[1] > 0 and v_xmin > v_head[1] then
            v_safe := _eram_safe_cursor(queue, v_safe, v_noted, v_first);
            v_head[1] := 0;
        end if;
        if v_head[1] = 0 and v_notes then
            v_noted := v_first;
            v_head[1:2] := array[-1, v_now_us];
        end if;
        -- One that a slow moment made dear must not put off the next for long; nor is one that was
        -- cheap, for it soon found what it was to claim, a sign that the next will be.
        v_cost := extract(epoch from clock_timestamp() - begun_at) * c_second;
        v_head[3:4] := array[
            v_now_us,
            least(greatest(v_cost, v_head[4] * 19 / 20), 10 * v_head[4] + c_least, c_sweep)];
        v_head[7] := v_xmin;
        if mode = 'full' then
            v_head[5:6] := array[v_now_us, least(v_cost, c_full)];
        end if;
    end if;

    v_head[8] := v_now_us;
    v_head[9:11] := array[
        cardinality(v_first) / 2, cardinality(v_safe) / 2, cardinality(v_noted) / 2];
    perform set_config(setting, (v_head || v_first || v_safe || v_noted)::text, false);
end;
$$;
