-- How long a failed job waits. A backoff is a JSON object, or short for one: a list is that of its
-- delays, a string its strategy. Null is the default, exponential. docs/retries.md has the table.

create or replace function eram_backoff(attempt integer, backoff jsonb default null)
    returns interval
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
begin
    if attempt is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'attempt must not be null',
            hint = 'Pass the number of the attempt that failed; the first one is 1.';
    elsif attempt < 1 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format('attempt must be at least 1, got %s', attempt),
            hint = 'Pass the number of the attempt that failed; the first one is 1.';
    end if;

    if backoff is not null then
        perform _eram_check_backoff(backoff);
    end if;

    return _eram_backoff(attempt, backoff);
end;
$$;

comment on function eram_backoff is
    'How long a job waits after its attempt of this number failed. backoff is an object with a '
    'strategy (exponential, exp, linear, fixed, none) and base, cap and jitter, or with a list of '
    'delays; a string is short for a strategy, an array for delays; null is exponential.';

-- What a failure calls: the backoff was checked when it was stored.
create or replace function _eram_backoff(attempt integer, backoff jsonb)
    returns interval
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    -- As intervals compare, a hundred years are 36,000 days.
    c_longest  constant double precision := 3110400000;
    v_rule     jsonb                     := backoff;
    v_strategy text                      := 'exponential';
    v_base     double precision;
    v_cap      double precision;
    v_jitter   double precision;
    v_seconds  double precision;
begin
    if v_rule is not null then
        if jsonb_typeof(v_rule) <> 'object' then
            v_rule := _eram_long_backoff(v_rule);
        end if;
        v_strategy := coalesce(v_rule ->> 'strategy', v_strategy);
        if v_rule ? 'base' then
            v_base := _eram_backoff_seconds(v_rule -> 'base');
        end if;
        if v_rule ? 'cap' then
            v_cap := _eram_backoff_seconds(v_rule -> 'cap');
        end if;
        if v_rule ? 'jitter' then
            v_jitter := round((nullif(v_rule -> 'jitter', 'null'))::numeric, 6);
        end if;
        if jsonb_typeof(v_rule -> 'delays') = 'array' then
            v_strategy := 'fixed';
            v_base := _eram_backoff_seconds(
                v_rule -> 'delays'
                -> least(attempt, jsonb_array_length(v_rule -> 'delays')) - 1);
        end if;
    end if;

    -- The exponent is bounded before power() sees it; beyond the bound every delay is capped.
    v_seconds := case v_strategy
        when 'exponential' then coalesce(v_base, 15) + power(2, least(attempt, 60))
        when 'exp' then coalesce(v_base, 1) * power(2, least(attempt, 60))
        when 'linear' then coalesce(v_base, 15) * attempt
        when 'fixed' then coalesce(v_base, 15)
        when 'none' then 0
    end;
    v_cap := coalesce(
        v_cap,
        case v_strategy when 'exponential' then 86400 when 'exp' then 3600 end);
    v_jitter := coalesce(v_jitter, case v_strategy when 'exponential' then 0.1 else 0 end);

    return make_interval(secs => least(v_seconds * (1 + v_jitter * random()), v_cap, c_longest));
end;
$$;

create or replace function _eram_check_backoff(backoff jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_strategies   constant text[]  := '{exponential,exp,linear,fixed,none}';
    c_keys         constant text[]  := '{strategy,base,cap,jitter,delays}';
    c_most_letters constant integer := 10000;
    v_rule         jsonb            := _eram_long_backoff(backoff);
    v_strategy     jsonb            := nullif(v_rule -> 'strategy', 'null');
    v_jitter       jsonb            := nullif(v_rule -> 'jitter', 'null');
begin
    if jsonb_typeof(v_rule) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'backoff must be a JSON object, a list or a string, got %s',
                jsonb_typeof(v_rule)),
            hint = 'Pass such as {"strategy": "fixed", "base": "1 minute"}, [1, 5, 60] or "exp".';
    end if;

    perform _eram_check_keys('backoff', v_rule, c_keys);

    if jsonb_typeof(v_strategy) <> 'string' or v_strategy #>> '{}' <> all (c_strategies) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('unknown backoff strategy: %s', left(v_strategy::text, 100)),
            hint = format('The strategies are %s.', array_to_string(c_strategies, ', '));
    end if;

    perform _eram_check_backoff_seconds('base of backoff', v_rule -> 'base');
    perform _eram_check_backoff_seconds('cap of backoff', v_rule -> 'cap');
    perform _eram_check_delays(v_rule);

    if jsonb_typeof(v_jitter) <> 'number' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('jitter of backoff must be a number, got %s', jsonb_typeof(v_jitter)),
            hint = 'It is the part of the delay that is added at random at most, such as 0.1.';
    elsif v_jitter::numeric not between 0 and 1 then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format(
                'jitter of backoff must be between 0 and 1, got %s',
                left(v_jitter::text, 100)),
            hint = 'It is the part of the delay that is added at random at most, such as 0.1.';
    end if;

    -- A duration may have any number of blanks and digits in it.
    if length(v_rule::text) > c_most_letters then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('backoff of %s characters is too long', length(v_rule::text)),
            hint = format('A backoff has at most %s characters.', c_most_letters);
    end if;
end;
$$;

create or replace function _eram_check_delays(rule jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_most   constant integer := 100;
    c_hint   constant text    :=
        'Pass a list of durations, such as [1, 5, "1 minute"]; the last one repeats.';
    v_delays jsonb            := nullif(rule -> 'delays', 'null');
    v_count  integer;
begin
    if v_delays is null then
        return;
    elsif jsonb_typeof(v_delays) <> 'array' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('delays of backoff must be a list, got %s', jsonb_typeof(v_delays)),
            hint = c_hint;
    elsif coalesce(rule -> 'strategy', 'null') <> 'null'
        or coalesce(rule -> 'base', 'null') <> 'null'
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'delays of backoff exclude strategy and base',
            hint = 'Pass delays alone, with cap and jitter if you like.';
    end if;

    v_count := jsonb_array_length(v_delays);
    if v_count not between 1 and c_most then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'delays of backoff must be between 1 and %s, got %s',
                c_most, v_count),
            hint = c_hint;
    end if;

    for n in 1 .. v_count loop
        perform _eram_check_delay(
            format('delay %s of backoff', n),
            _eram_read_interval(format('delay %s of backoff', n), v_delays -> n - 1));
    end loop;
end;
$$;

-- A duration that may be left out.
create or replace function _eram_check_backoff_seconds(what text, value jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if value <> 'null' then
        perform _eram_check_delay(what, _eram_read_interval(what, value));
    end if;
end;
$$;

-- Delays are sums and products, so they are counted in seconds: a day has 24 hours, a month 30
-- days.
create or replace function _eram_backoff_seconds(value jsonb)
    returns double precision
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if jsonb_typeof(value) = 'number' then
        return round(value::numeric, 6);
    end if;
    return extract(epoch from _eram_read_interval('duration of backoff', value));
end;
$$;

create or replace function _eram_long_backoff(backoff jsonb)
    returns jsonb
    language sql
    immutable
    set search_path from current
as $$
    select case jsonb_typeof(backoff)
        when 'array' then jsonb_build_object('delays', backoff)
        when 'string' then jsonb_build_object('strategy', backoff)
        else backoff
    end;
$$;
