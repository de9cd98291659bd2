-- Ticking without a client of one's own. A procedure that commits cannot pin its path, and one that
-- pins it cannot commit: this one knows its schema by name, and sets the path in each transaction.

do $create$
declare
    v_body   text := $body$
declare
    v_end     timestamptz;
    v_tick    record;
    v_last_id bigint;
begin
    -- Within a transaction block this fails before anything is done. At a stricter level than this
    -- one, tickers would undo each other's work.
    commit;
    set transaction isolation level read committed;
    perform pg_catalog.set_config('search_path', <path>, true);
    if duration is null or duration < interval '0' or duration > interval '1 day' then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = pg_catalog.format('duration must be between 0 and 1 day, got %s', duration),
            hint = 'Call it again and again, such as every minute for 55 seconds.';
    end if;
    v_end := clock_timestamp() + duration;
    loop
        perform pg_catalog.set_config('search_path', <path>, true);
        select * into v_tick
        from eram_tick(1, with_top_level => false);
        commit;

        set transaction isolation level read committed;
        perform pg_catalog.set_config('search_path', <path>, true);
        if v_tick.run_id is not null then
            -- In a transaction of its own. The last of what was due at first is remembered.
            if v_last_id is null then
                select last_value into v_last_id from eram_schedule_runs_id_seq;
            end if;
            perform eram_run_command(v_tick.run_id);
            commit;
            set transaction isolation level read committed;
        end if;

        perform pg_catalog.set_config('search_path', <path>, true);
        exit when clock_timestamp() >= v_end
            and (v_tick.run_id is null or v_tick.run_id >= v_last_id);
        if v_tick.run_id is null then
            -- At least once a second, for the rescue.
            perform pg_sleep(greatest(0.01, extract(epoch from least(
                v_tick.next_tick_at - clock_timestamp(),
                v_end - clock_timestamp(),
                interval '1 second'))));
        end if;
    end loop;
end;
    $body$;
    v_create text := $procedure$
create or replace procedure <schema>.eram_run(duration interval default '0')
    language plpgsql
as <body>
    $procedure$;
begin
    v_body := replace(
        v_body,
        '<path>',
        quote_literal(format('%I, pg_temp', current_schema())));
    v_create := replace(v_create, '<schema>', quote_ident(current_schema()));
    execute replace(v_create, '<body>', quote_literal(v_body));
end;
$create$;

comment on procedure eram_run is
    'Tick for so long, at least once a second, and once in any case, for pg_cron and psql: '
    'everything that eram_tick() does, SQL commands included; it cannot hold these to their '
    'timeouts. What must be run at top level is left to others. Call it outside of a transaction '
    'block.';
