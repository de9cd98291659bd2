-- What is kept of an error is bounded, and never refused for its size: the report of a failure must
-- not be lost because it is long.

-- The smallest entries stay whole, and the larger ones share the room that is left.
create or replace function _eram_bound_detail(detail jsonb, most_bytes integer)
    returns jsonb
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_most_keys     constant integer := 50;
    c_longest_key   constant integer := 100;
    -- Of what is larger, the text might not fit into a value.
    c_most_readable constant integer := 10000000;
    v_bounded       jsonb            := '{}';
    v_room          integer          := most_bytes;
    v_share         integer;
    v_entry         record;
begin
    for v_entry in
        select
            kept.key,
            kept.value,
            kept.size,
            count(*) over (order by kept.size desc, kept.key desc) as count_left
        from (
            select
                entries.key,
                entries.value,
                pg_column_size(entries.value) + octet_length(entries.key) as size
            from jsonb_each(detail) as entries
            where octet_length(entries.key) <= c_longest_key
            order by
                entries.key in ('type', 'traceback') desc,
                size
            limit c_most_keys
        ) as kept
        order by
            kept.size,
            kept.key
    loop
        v_share := least(v_entry.size, v_room / v_entry.count_left);
        if v_entry.size > v_share then
            v_entry.value := to_jsonb(_eram_cut_text(
                case
                    when jsonb_typeof(v_entry.value) = 'string'
                        or v_entry.size <= c_most_readable
                    then v_entry.value #>> '{}'
                    else format('%s of %s bytes', jsonb_typeof(v_entry.value), v_entry.size)
                end,
                v_share - octet_length(v_entry.key)));
        end if;
        v_room := v_room - v_share;
        v_bounded := v_bounded || jsonb_build_object(v_entry.key, v_entry.value);
    end loop;

    return v_bounded;
end;
$$;

-- A quarter of the beginning, and of the end, where a traceback says most, what there is room for.
create or replace function _eram_cut_text(value text, most_bytes integer)
    returns text
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_remark constant integer := 50;
    v_count  integer          := most_bytes - c_remark;
    v_cut    text             := value;
begin
    while octet_length(v_cut) > most_bytes and v_count > 0 loop
        v_cut := format(
            '%s [... %s characters ...] %s',
            left(value, v_count / 4),
            length(value) - v_count,
            right(value, v_count - v_count / 4));
        -- Fewer next time, if there are characters of several bytes.
        v_count := v_count::bigint * (most_bytes - c_remark) / octet_length(v_cut);
    end loop;
    return v_cut;
end;
$$;
