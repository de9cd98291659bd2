-- Retrying: a job that ended goes back to its queue, and one that waits for its backoff is due at
-- once. It keeps its attempts and its errors, and may have one more attempt if they were used up. A
-- retried job that was completed stays named in eram_completions, which does no harm. Retried jobs
-- stand behind the others of their priority that are due; eram_update_job() puts one before them.
-- Unique keys are taken again before any ticket, in order of the key.

create or replace function eram_retry_job(id bigint)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    v_id       bigint := id;
    v_taken    record;
    v_spec     record;
    v_ticket   record;
    v_priority smallint;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;

    perform pg_current_xact_id();

    for i in 1.._eram_most_looks() loop
        select
            specs.unique_key,
            specs.unique_until,
            finished.job_id is not null as has_ended
        into v_spec
        from eram_job_specs as specs
        left join eram_finished_jobs as finished on finished.job_id = specs.job_id
        where specs.job_id = v_id;

        if not found then
            if i > 1 then
                return false;
            end if;
            raise exception using
                errcode = 'undefined_object',
                message = format('job %s does not exist', v_id),
                hint = 'It was pruned, or never was.';
        end if;

        if v_spec.has_ended then
            v_taken := _eram_retake_key(v_id);
            if v_taken.holder <> v_id then
                raise exception using
                    errcode = 'unique_violation',
                    message = format('another job has the unique key of job %s', v_id),
                    detail = format('It is job %s.', v_taken.holder),
                    hint = 'Retry it when that one has ended, or its window.';
            end if;

            -- A key that was its own already may be given up by now, if the job has run and ended
            -- once more in between: then it is to be taken anew.
            delete from eram_finished_jobs as finished
            where
                finished.job_id = v_id
                and (
                    v_taken.is_new
                    or v_spec.unique_key is null
                    or v_spec.unique_until <= clock_timestamp()
                    or exists (
                        select
                        from eram_unique_keys as unique_keys
                        where
                            unique_keys.key = v_spec.unique_key
                            and unique_keys.job_id = v_id
                    )
                )
            returning finished.queue, finished.run, finished.attempt into v_ticket;
            exit when found;

            if v_taken.is_new then
                perform _eram_release_keys(array[v_spec.unique_key], array[v_id]);
            end if;
        else
            delete from eram_queued_jobs as queued
            where
                queued.job_id = v_id
                and queued.attempt > 0
                and queued.scheduled_at > clock_timestamp()
            returning queued.queue, queued.run, queued.attempt into v_ticket;
            exit when found;

            -- One that waits for its backoff has just got a new ticket: look again.
            if exists (select from eram_running_jobs as running where running.job_id = v_id)
                or exists (
                    select
                    from eram_queued_jobs as queued
                    where
                        queued.job_id = v_id
                        and (queued.attempt = 0 or queued.scheduled_at <= clock_timestamp())
                )
            then
                return false;
            end if;
        end if;
    end loop;

    if v_ticket.queue is null then
        raise exception using
            errcode = 'data_corrupted',
            message = format('job %s is in no place', v_id),
            hint = 'See what eram_check() returns.';
    end if;

    update eram_job_specs as specs
    set max_attempts = v_ticket.attempt + 1
    where
        specs.job_id = v_id
        and specs.max_attempts <= v_ticket.attempt;

    -- Not before the ticket is taken: until then others can change it.
    select specs.priority
    into v_priority
    from eram_job_specs as specs
    where specs.job_id = v_id;

    perform _eram_wake(v_ticket.queue);
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    values (
        v_id, clock_timestamp(), v_ticket.run, v_ticket.attempt, 2 * v_priority + 1,
        v_ticket.queue, v_spec.unique_key);
    return true;
end;
$$;

comment on function eram_retry_job is
    'Let a job that ended run again, or one that waits for its backoff run at once. Its attempts '
    'and errors stay; max_attempts grows by one if they were used up. Returns false when the job '
    'runs, is due, or waits for its first attempt. That another job has its unique key now is an '
    'error which names that job.';

create or replace function eram_retry_jobs(filter jsonb)
    returns bigint
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
declare
    c_states constant text[] := '{completed,discarded,cancelled,retryable}';
    v_wanted record;
    v_keys   record;
    v_locked record;
    v_now    timestamptz;
    v_count  bigint;
begin
    perform pg_current_xact_id();

    select
        array_agg(matching.job_id order by matching.job_id) as ids,
        array_agg(matching.place order by matching.job_id) as places,
        array_agg(matching.ticket order by matching.job_id) as tickets
    into v_wanted
    from _eram_matching_jobs(filter, c_states) as matching;
    if v_wanted.ids is null then
        return 0;
    end if;

    v_keys := _eram_retake_keys(v_wanted.ids, v_wanted.places);
    if v_keys.refused <> '{}' then
        select
            array_agg(wanted.job_id order by wanted.job_id) as ids,
            array_agg(wanted.place order by wanted.job_id) as places,
            array_agg(wanted.ticket order by wanted.job_id) as tickets
        into v_wanted
        from unnest(v_wanted.ids, v_wanted.places, v_wanted.tickets)
            as wanted (job_id, place, ticket)
        where
            not exists (
                select
                from unnest(v_keys.refused) as refused (job_id)
                where refused.job_id = wanted.job_id
            );
    end if;

    -- What another has moved is passed over: it may need a key now, and tickets are locked.
    v_locked := _eram_lock_tickets(
        v_wanted.ids, v_wanted.places, v_wanted.tickets, null, c_states);

    perform _eram_wake(queues.name)
    from (
        select queued.queue
        from eram_queued_jobs as queued
        where queued.ctid = any (v_locked.queued)
        union
        select finished.queue
        from eram_finished_jobs as finished
        where finished.ctid = any (v_locked.finished)
    ) as queues (name);

    v_now := clock_timestamp();

    with early as (
        delete from eram_queued_jobs as queued
        where
            queued.ctid = any (v_locked.queued)
            and queued.scheduled_at > v_now
        returning queued.job_id, queued.run, queued.attempt, queued.queue
    ),
    ended as (
        delete from eram_finished_jobs as finished
        where finished.ctid = any (v_locked.finished)
        returning finished.job_id, finished.run, finished.attempt, finished.queue
    ),
    back as materialized (
        -- A lateral limit, because any other join may be planned the wrong way round.
        select
            gone.*,
            specs.priority,
            specs.max_attempts,
            specs.unique_key
        from (
            select *
            from early
            union all
            select *
            from ended
        ) as gone
        cross join lateral (
            select *
            from eram_job_specs as specs
            where specs.job_id = gone.job_id
            limit 1
        ) as specs
    ),
    extended as (
        -- Nobody has used more than all of them.
        update eram_job_specs as specs
        set max_attempts = specs.max_attempts + 1
        where
            specs.job_id = any (
                array(select back.job_id from back where back.attempt >= back.max_attempts))
    )
    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    select
        back.job_id,
        v_now,
        back.run,
        back.attempt,
        2 * back.priority + 1,
        back.queue,
        back.unique_key
    from back;
    get diagnostics v_count = row_count;

    perform _eram_release_keys(array_agg(taken.key), array_agg(taken.job_id))
    from unnest(v_keys.new_keys, v_keys.new_ids) as taken (key, job_id)
    where taken.job_id = any (v_locked.lost)
    having count(*) > 0;

    return v_count;
end;
$$;

comment on function eram_retry_jobs is
    'Let the jobs that match a filter (see eram_cancel_jobs) run again as eram_retry_job does, if '
    'they have ended or wait for their backoff. One whose unique key another job has is passed '
    'over, and so is one that another changes at the same time. Returns how many are retried.';
