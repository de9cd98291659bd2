-- Deleting: of a job nothing is left, as if it had been pruned. What runs must be cancelled first.
-- A deleted job that was completed stays named in eram_completions, which does no harm. Nothing is
-- announced to those who wait for its end: they find that it is gone when they look again.

create or replace function eram_delete_job(id bigint)
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
    v_id    bigint := id;
    v_found bigint;
    v_key   bytea;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;

    if not exists (select from eram_job_specs as specs where specs.job_id = v_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('job %s does not exist', v_id),
            hint = 'It was pruned, or never was.';
    end if;

    for i in 1.._eram_most_looks() loop
        if exists (select from eram_running_jobs as running where running.job_id = v_id) then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('job %s is running', v_id),
                hint = 'Cancel it with eram_cancel_job() first.';
        end if;

        delete from eram_queued_jobs as queued
        where queued.job_id = v_id
        returning queued.job_id into v_found;

        if v_found is null then
            delete from eram_finished_jobs as finished
            where finished.job_id = v_id
            returning finished.job_id into v_found;
        end if;
        exit when v_found is not null;

        if not exists (select from eram_job_specs as specs where specs.job_id = v_id) then
            return false;
        end if;
    end loop;

    if v_found is null then
        raise exception using
            errcode = 'data_corrupted',
            message = format('job %s is in no place', v_id),
            hint = 'See what eram_check() returns.';
    end if;

    delete from eram_job_specs as specs
    where specs.job_id = v_id
    returning specs.unique_key into v_key;
    delete from eram_job_errors as errors
    where errors.job_id = v_id;

    if v_key is not null then
        perform _eram_release_keys(array[v_key], array[v_id]);
    end if;
    return true;
end;
$$;

comment on function eram_delete_job is
    'Delete a job that waits or has ended, with its result and errors; one that runs is an error: '
    'cancel it first. Returns false when another deleted it at the same time.';

create or replace function eram_delete_jobs(filter jsonb)
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
    c_states constant text[] := '{available,scheduled,retryable,completed,discarded,cancelled}';
    v_filter jsonb           := filter;
    v_wanted record;
    v_locked record;
    v_ids    bigint[];
    v_keyed  record;
begin
    select
        array_agg(matching.job_id order by matching.job_id) as ids,
        array_agg(matching.place order by matching.job_id) as places,
        array_agg(matching.ticket order by matching.job_id) as tickets
    into v_wanted
    from _eram_matching_jobs(v_filter, c_states) as matching;

    v_locked := _eram_lock_tickets(
        v_wanted.ids, v_wanted.places, v_wanted.tickets, v_filter, c_states);

    with waiting as (
        delete from eram_queued_jobs as queued
        where queued.ctid = any (v_locked.queued)
        returning queued.job_id
    ),
    ended as (
        delete from eram_finished_jobs as finished
        where finished.ctid = any (v_locked.finished)
        returning finished.job_id
    )
    select array_agg(gone.job_id) into v_ids
    from (
        select waiting.job_id
        from waiting
        union all
        select ended.job_id
        from ended
    ) as gone;

    with gone as (
        delete from eram_job_specs as specs
        where specs.job_id = any (v_ids)
        returning specs.job_id, specs.unique_key
    )
    select
        array_agg(gone.unique_key) as keys,
        array_agg(gone.job_id) as ids
    into v_keyed
    from gone
    where gone.unique_key is not null;
    delete from eram_job_errors as errors
    where errors.job_id = any (v_ids);
    perform _eram_release_keys(v_keyed.keys, v_keyed.ids);

    return coalesce(cardinality(v_ids), 0);
end;
$$;

comment on function eram_delete_jobs is
    'Delete the jobs that match a filter (see eram_cancel_jobs) and wait or have ended; what runs '
    'is passed over. Returns how many were deleted.';
