-- The fetch cursor: where in each lane of a queue the next claim begins (docs/architecture.md
-- explains why that is right). It is a hint, kept in a setting of the session: no write, no
-- lock, no contention, reverted by a rollback, and harmless behind a pooler, where another
-- client carries on with it.
--
-- The setting is a list of integers, times in microseconds since 1970:
--     1 mark      id that must have ended before "noted" becomes "safe"; 0 none, -1 wanted
--     2 noted_at  3 swept_at  4 sweep_cost  5 full_at  6 full_cost
--     7 to 46     first: 20 times, 20 ids; where the last claim of a lane ended
--    47 to 86     safe:  the same; behind it nothing can appear any more
--    87 to 126    noted: the first cursor as it was when it was noted
--   127 xmin      below it, every transaction had ended when the last sweep began
-- A position is (time, id): everything up to it has been read.

create or replace function _eram_cursor_setting(queue text)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select 'eram.cursor_' || 'eram_queued_jobs'::regclass::oid || '_' || md5(queue);
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
    v_text     text := current_setting(setting, true);
    v_cursor   bigint[];
    v_earliest bigint;
    v_latest   bigint;
begin
    -- Without a backslash, which means another thing where standard_conforming_strings is off.
    if v_text is null or v_text !~ '^[{]-?[0-9]{1,18}(,[0-9]{1,18})*[}]$' then
        return null;
    end if;

    v_cursor := v_text::bigint[];
    if cardinality(v_cursor) <> 127
        -- No scan took longer than the time since it began.
        or v_cursor[4] not between 0 and now_us - v_cursor[3]
        or v_cursor[6] not between 0 and now_us - v_cursor[5]
    then
        return null;
    end if;

    select
        min(times.at),
        max(times.at)
    into v_earliest, v_latest
    from unnest(
        v_cursor[2:3] || v_cursor[5:5]
        || v_cursor[7:26] || v_cursor[47:66] || v_cursor[87:106]) as times (at);
    if v_earliest < 0 or v_latest > now_us then
        return null;
    end if;
    return v_cursor;
end;
$$;
