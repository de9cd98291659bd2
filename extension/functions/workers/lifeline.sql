-- The last resort, as a task of the scheduler: rescue by age, for jobs of workers that nothing
-- tells to be alive or dead. Its options are a JSON object; what is left out has its default.

-- How long is long; null is for ever.
create or replace function _eram_read_rescue_after(options jsonb)
    returns interval
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_default constant interval := interval '1 hour';
    v_value            jsonb    := coalesce(options -> 'rescue_after', 'null');
begin
    if v_value = '"infinity"' then
        return null;
    end if;
    return coalesce(_eram_read_interval('rescue_after', v_value), c_default);
end;
$$;

create or replace function _eram_check_lifeline_options(options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_keys constant text[]   := '{rescue_after}';
    v_rescue_after  interval;
begin
    perform _eram_check_object('options', options);

    perform _eram_check_keys('options', options, c_keys);


    v_rescue_after := _eram_read_rescue_after(options);
    if v_rescue_after is not null then
        perform _eram_check_delay('rescue_after', v_rescue_after);
    end if;
    if v_rescue_after = interval '0' then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = 'rescue_after must be longer than zero',
            hint = 'Pass seconds or an interval such as "1 hour"; "infinity" for never.';
    end if;
end;
$$;

create or replace function _eram_run_lifeline(options jsonb)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    perform eram_rescue_jobs(_eram_read_rescue_after(options));
end;
$$;
