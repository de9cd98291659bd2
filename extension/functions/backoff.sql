-- How long a failed job waits. A backoff is a JSON object; null is the default, exponential.

create or replace function _eram_check_backoff(backoff jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
declare
    c_strategies constant text[] := '{exponential,fixed}';
    c_keys       constant text[] := '{strategy,base}';
begin
    perform _eram_check_object('backoff', backoff);

    perform _eram_check_keys('backoff', backoff, c_keys);
    if jsonb_typeof(backoff -> 'strategy') is distinct from 'string'
        or backoff ->> 'strategy' <> all (c_strategies)
    then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'unknown backoff strategy: %s',
                coalesce(backoff -> 'strategy', 'null')),
            hint = format('The strategies are %s.', array_to_string(c_strategies, ', '));
    elsif (backoff ->> 'strategy' = 'fixed') <> (coalesce(backoff -> 'base', 'null') <> 'null') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format(
                'backoff strategy "%s" %s a base',
                backoff ->> 'strategy',
                case when backoff ->> 'strategy' = 'fixed' then 'needs' else 'does not take' end),
            hint = 'A fixed backoff is {"strategy": "fixed", "base": "1 second"}.';
    end if;

    if backoff ->> 'strategy' = 'fixed' then
        perform _eram_check_delay(
            'base of backoff',
            _eram_read_interval('base of backoff', backoff -> 'base'));
    end if;
end;
$$;

-- Exponential is Oban's: 15 + 2^attempt seconds and up to a tenth more, at most a day. The
-- exponent is bounded before power() sees it.
create or replace function _eram_backoff(backoff jsonb, attempt integer)
    returns interval
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_day constant double precision := 86400;
begin
    if backoff ->> 'strategy' = 'fixed' then
        return _eram_read_interval('base of backoff', backoff -> 'base');
    end if;

    return make_interval(
        secs => least(c_day, (15 + power(2, least(attempt, 20))) * (1 + 0.1 * random())));
end;
$$;
