-- What the testing helpers of clients call: jobs are run in the transaction that a test enqueued
-- them in and rolls back, and time passes when the test says so. Only the owner may call these.
--
-- A job is this transaction's own if its ticket is: what others have committed is left alone, so
-- that a test neither runs nor locks what is none of its business.

-- A row that can be seen, and whose writer has not ended, was written by this transaction or by a
-- part of it that began at a savepoint. age() tells most others by a subtraction, so callers ask
-- for age(writer) <= 0 first.
create or replace function _eram_is_own(writer xid)
    returns boolean
    language sql
    volatile
    set search_path from current
as $$
    select pg_xact_status(
        (pg_current_xact_id()::text::bigint - age(writer))::text::xid8) = 'in progress';
$$;

create or replace function _eram_own_jobs()
    returns setof bigint
    language sql
    volatile
    set search_path from current
as $$
    select queued.job_id
    from eram_queued_jobs as queued
    where age(queued.xmin) <= 0 and _eram_is_own(queued.xmin)
    union all
    select running.job_id
    from eram_running_jobs as running
    where age(running.xmin) <= 0 and _eram_is_own(running.xmin)
    union all
    select finished.job_id
    from eram_finished_jobs as finished
    where age(finished.xmin) <= 0 and _eram_is_own(finished.xmin);
$$;

create or replace function _eram_newest_job()
    returns bigint
    language sql
    volatile
    set search_path from current
as $$
    select coalesce(max(specs.job_id), 0) from eram_job_specs as specs;
$$;

-- Claims the next job that is due, in any queue when none is named; with is_early also one that is
-- not due yet, unless it is one of those that have been run before.
-- With upto_id none that is newer, and none for the second time.
create or replace function _eram_fetch_in_test(
    worker   bigint,
    queue    text,
    is_own   boolean,
    is_early boolean,
    upto_id  bigint,
    run_ids  bigint[]
)
    returns setof eram_claimed_job
    language sql
    volatile
    set search_path from current
as $$
    with best as materialized (
        select queued.ctid as place
        from eram_queued_jobs as queued
        where
            (_eram_fetch_in_test.queue is null or queued.queue = _eram_fetch_in_test.queue)
            and (
                queued.scheduled_at <= statement_timestamp()
                or is_early and queued.job_id <> all (run_ids)
            )
            and (upto_id is null or queued.job_id <= upto_id and queued.job_id <> all (run_ids))
            and (
                not is_own
                or age(queued.xmin) <= 0 and _eram_is_own(queued.xmin)
            )
            and not exists (
                select
                from eram_queues as queues
                where queues.name = queued.queue and queues.is_paused
            )
        order by
            queued.lane,
            queued.scheduled_at,
            queued.job_id
        limit 1
        for update of queued skip locked
    ),
    taken as (
        delete from eram_queued_jobs as queued
        using best
        where queued.ctid = best.place
        returning queued.*
    ),
    started as (
        insert into eram_running_jobs
            (job_id, worker, attempted_at, run, attempt, lane, queue, unique_key)
        select
            taken.job_id,
            worker,
            clock_timestamp(),
            taken.run + 1,
            taken.attempt + 1,
            taken.lane,
            taken.queue,
            taken.unique_key
        from taken
        returning *
    )
    select
        started.job_id,
        started.run,
        _eram_handler_name(specs.handler),
        specs.args,
        coalesce(specs.meta, '{}'),
        specs.tags,
        started.queue,
        started.lane / 2,
        started.attempt,
        specs.max_attempts,
        specs.inserted_at,
        taken.scheduled_at,
        started.attempted_at,
        specs.timeout
    from started
    join taken on taken.job_id = started.job_id
    join eram_job_specs as specs on specs.job_id = started.job_id;
$$;

-- All jobs, with the names of those criteria that each does not meet. Delays and times are met to
-- within a second.
create or replace function _eram_compare_jobs(criteria jsonb, is_own boolean)
    returns table (job eram_jobs, unmet text[])
    language sql
    volatile
    set search_path from current
as $$
    select
        jobs,
        array(
            select wanted.name
            from (
                values
                    ('handler', to_jsonb(jobs.handler) = criteria -> 'handler'),
                    ('args', jobs.args @> (criteria -> 'args')),
                    ('meta', coalesce(jobs.meta, '{}') @> (criteria -> 'meta')),
                    ('tags', to_jsonb(jobs.tags) @> (criteria -> 'tags')),
                    ('queue', to_jsonb(jobs.queue) = criteria -> 'queue'),
                    ('priority', to_jsonb(jobs.priority) = criteria -> 'priority'),
                    ('max_attempts', to_jsonb(jobs.max_attempts) = criteria -> 'max_attempts'),
                    ('state', criteria -> 'state' @> to_jsonb(jobs.state)),
                    (
                        'delay',
                        abs(extract(epoch from jobs.scheduled_at - jobs.inserted_at)
                            - (criteria ->> 'delay')::numeric) <= 1
                    ),
                    (
                        'scheduled_at',
                        abs(extract(epoch from jobs.scheduled_at
                            - (criteria ->> 'scheduled_at')::timestamptz)) <= 1
                    )
            ) as wanted (name, is_met)
            where criteria ? wanted.name and not coalesce(wanted.is_met, false)
        )
    from eram_jobs as jobs
    where
        not is_own
        or jobs.id in (select own.job_id from _eram_own_jobs() as own (job_id))
    order by jobs.id;
$$;

-- How much time has passed in this transaction because its test said so.
create or replace function _eram_time_passed()
    returns interval
    language sql
    stable
    set search_path from current
as $$
    select coalesce(nullif(current_setting('eram.time_passed', true), '')::interval, interval '0');
$$;

-- As if time had passed: what this transaction has stored becomes so much older. Schedules stay,
-- because others share them: the tick below reckons with the time that has passed.
create or replace function _eram_advance_time(by interval)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_by  interval := by;
    v_ids bigint[];
begin
    perform _eram_check_delay('the time to pass', v_by);
    v_by := make_interval(secs => extract(epoch from v_by)::float8);
    v_ids := array(select own.job_id from _eram_own_jobs() as own (job_id));

    with moved as (
        delete from eram_queued_jobs as queued
        where queued.job_id = any (v_ids)
        returning queued.*
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    select
        moved.job_id,
        moved.scheduled_at - v_by,
        moved.run,
        moved.attempt,
        moved.lane,
        moved.queue,
        moved.unique_key
    from moved;

    update eram_job_specs as specs
    set
        inserted_at = specs.inserted_at - v_by,
        scheduled_at = specs.scheduled_at - v_by,
        unique_until = specs.unique_until - v_by
    where specs.job_id = any (v_ids);

    update eram_unique_keys as keys
    set expires_at = keys.expires_at - v_by
    where keys.job_id = any (v_ids) and keys.expires_at is not null;

    with moved as (
        delete from eram_finished_jobs as finished
        where finished.job_id = any (v_ids)
        returning finished.*
    )
    insert into eram_finished_jobs
        (job_id, worker, attempted_at, finalized_at, run, attempt, state, queue, result)
    select
        moved.job_id,
        moved.worker,
        moved.attempted_at - v_by,
        moved.finalized_at - v_by,
        moved.run,
        moved.attempt,
        moved.state,
        moved.queue,
        moved.result
    from moved;

    update eram_completions as completions
    set finalized_at = completions.finalized_at - v_by
    where age(completions.xmin) <= 0 and _eram_is_own(completions.xmin);

    update eram_job_errors as errors
    set errored_at = errors.errored_at - v_by
    where errors.job_id = any (v_ids);

    perform set_config('eram.time_passed', (_eram_time_passed() + v_by)::text, true);
end;
$$;

-- Enqueues the jobs of schedules that are due when so much time has passed. Commands and
-- maintenance are left alone: they would act on what others have committed.
create or replace function _eram_tick_in_test()
    returns bigint
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_now   timestamptz := clock_timestamp() + _eram_time_passed();
    v_entry eram_schedules;
    v_count bigint      := 0;
begin
    for v_entry in
        select schedules.*
        from eram_schedules as schedules
        where
            schedules.action = 'job'
            and schedules.next_run_at <= v_now
        order by schedules.name
        for update
    loop
        perform _eram_run_entry(v_entry, v_now);
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$;
