-- What may be said of a handler's jobs, by the code and by an administrator: an object of values
-- that mean the same as in the document of a job.

create or replace function _eram_handler_keys()
    returns text[]
    language sql
    immutable
    set search_path from current
as $$
    select '{queue,max_attempts,priority,tags,meta,backoff,timeout,unique}'::text[];
$$;

create or replace function _eram_check_handler_values(what text, options jsonb)
    returns void
    language plpgsql
    immutable
    set search_path from current
as $$
begin
    if options is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s must not be null', what),
            hint = 'Pass an object such as {"max_attempts": 3}, or {} for none.';
    end if;
    perform _eram_check_object(what, options);
    perform _eram_check_keys(what, options, _eram_handler_keys());

    if options ? 'queue' then
        perform _eram_check_queue(_eram_read_text('queue', options -> 'queue'));
    end if;
    if options ? 'max_attempts' then
        perform _eram_check_max_attempts(
            _eram_read_integer('max_attempts', options -> 'max_attempts'));
    end if;
    if options ? 'priority' then
        perform _eram_check_priority(_eram_read_integer('priority', options -> 'priority'));
    end if;
    if options ? 'tags' then
        perform _eram_check_tags(_eram_read_tags(options -> 'tags'));
    end if;
    perform _eram_check_object('meta', options -> 'meta');
    if options ? 'backoff' then
        perform _eram_check_backoff(options -> 'backoff');
    end if;
    if options ? 'timeout' then
        perform _eram_check_timeout(_eram_read_interval('timeout', options -> 'timeout'));
    end if;
    if options ? 'unique' then
        perform _eram_check_unique_by(options -> 'unique');
    end if;
end;
$$;
