-- The guard in place of foreign keys and triggers: every violated invariant as a row.

create or replace function eram_check()
    returns table (violation text, job_id bigint, detail text)
    language sql
    stable
    security definer
    set search_path from current
    -- Without statistics the planner takes nested loops for good ones.
    set enable_nestloop to off
    set jit to off
as $$
    -- One statement, so that all of it sees one snapshot.
    with places as (
        select
            queued.job_id,
            'queued' as place,
            queued.run,
            queued.attempt,
            queued.lane,
            queued.queue,
            queued.scheduled_at,
            queued.unique_key
        from eram_queued_jobs as queued
        union all
        select job_id, 'running', run, attempt, lane, queue, null, unique_key
        from eram_running_jobs as running
        union all
        select job_id, 'finished', run, attempt, null, queue, null, null
        from eram_finished_jobs as finished
    )
    select
        'job in several places',
        places.job_id,
        string_agg(places.place, ', ' order by places.place)
    from places
    group by places.job_id
    having count(*) > 1
    union all
    select 'job in no place', specs.job_id, specs.handler
    from eram_job_specs as specs
    where not exists (select from places where places.job_id = specs.job_id)
    union all
    select 'job without a spec', places.job_id, places.place
    from places
    where not exists (select from eram_job_specs as specs where specs.job_id = places.job_id)
    union all
    select
        'more attempts than allowed',
        places.job_id,
        format('%s of %s', places.attempt, specs.max_attempts)
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    where
        places.attempt > specs.max_attempts
        or places.place = 'queued' and places.attempt = specs.max_attempts
    union all
    select
        'lane of another priority',
        places.job_id,
        format('lane %s, priority %s', places.lane, specs.priority)
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    where places.lane / 2 <> specs.priority
    union all
    select
        'queue differs from its spec',
        places.job_id,
        format('%s, not %s', places.queue, specs.queue)
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    where places.queue <> specs.queue
    union all
    select
        'scheduled before it was enqueued',
        places.job_id,
        format('%s, enqueued at %s', places.scheduled_at, specs.inserted_at)
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    where places.scheduled_at < specs.inserted_at
    union all
    select 'spec out of range', specs.job_id, specs.handler
    from eram_job_specs as specs
    where
        specs.priority not between 0 and 9
        or specs.max_attempts < 1
        or specs.timeout <= interval '0'
        or jsonb_typeof(specs.args) <> 'object'
        or jsonb_typeof(specs.meta) <> 'object'
        or specs.meta = '{}'
        or (specs.unique_by is null) <> (specs.unique_key is null)
        or specs.unique_until is not null and specs.unique_key is null
    union all
    select
        'ticket out of range',
        places.job_id,
        format('%s, run %s, attempt %s', places.place, places.run, places.attempt)
    from places
    where
        places.attempt < case places.place when 'running' then 1 else 0 end
        or places.run < places.attempt
    union all
    select 'unknown state', finished.job_id, finished.state
    from eram_finished_jobs as finished
    where finished.state not in ('completed', 'discarded', 'cancelled')
    union all
    select
        'unique key differs from its spec',
        places.job_id,
        places.place
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    where
        places.place <> 'finished'
        and places.unique_key is distinct from specs.unique_key
    union all
    select
        'unique key in force for no job',
        keys.job_id,
        coalesce(places.place, 'no job')
    from eram_unique_keys as keys
    left join places on places.job_id = keys.job_id
    where
        keys.expires_at is null
        and places.unique_key is distinct from keys.key
    union all
    select
        'unique job without its key',
        places.job_id,
        coalesce('it is that of job ' || keys.job_id, 'nobody has it')
    from places
    join eram_job_specs as specs on specs.job_id = places.job_id
    left join eram_unique_keys as keys on keys.key = places.unique_key
    where
        places.unique_key is not null
        -- By the clock: another may have taken it over before the snapshot.
        and (specs.unique_until is null or specs.unique_until > clock_timestamp())
        and keys.job_id is distinct from places.job_id
    union all
    select
        'error of a run that never was',
        errors.job_id,
        format('run %s of %s', errors.run, places.run)
    from eram_job_errors as errors
    left join places on places.job_id = errors.job_id
    where places.run is null or errors.run > places.run
    union all
    select 'run that failed is still running', errors.job_id, format('run %s', errors.run)
    from eram_job_errors as errors
    join eram_running_jobs as running on running.job_id = errors.job_id and running.run = errors.run
    union all
    -- Between death and rescue this is normal, for seconds.
    select
        'worker is gone',
        running.job_id,
        format('worker %s, since %s', running.worker, coalesce(workers.ended_at::text, 'ever'))
    from eram_running_jobs as running
    left join eram_workers as workers on workers.id = running.worker
    where workers.id is null or workers.ended_at < statement_timestamp() - interval '1 minute'
    union all
    -- The prune would never find it.
    select 'completed job that no completion names', finished.job_id, finished.queue
    from eram_finished_jobs as finished
    where
        finished.state = 'completed'
        and not exists (
            select
            from (
                select
                    unnest(completions.ids) as job_id,
                    completions.finalized_at,
                    completions.queue
                from eram_completions as completions
            ) as named
            where
                named.job_id = finished.job_id
                and named.queue = finished.queue
                and named.finalized_at >= finished.finalized_at
        )
    union all
    select 'schedule that its application has not declared', null, schedules.name
    from eram_schedules as schedules
    left join eram_declared_schedules as declared
        on declared.application = schedules.declared_by
        and declared.name = schedules.name
    where
        schedules.declared_by is not null
        and declared.name is null
    union all
    select
        'sequence behind its table',
        case sequences.name when 'eram_job_specs_job_id_seq' then sequences.last_id end,
        format(
            '%s: next id %s, last one there %s',
            sequences.name,
            sequences.next_id,
            sequences.last_id)
    from (
        select
            sequence.last_value + sequence.is_called::integer as next_id,
            (select max(specs.job_id) from eram_job_specs as specs) as last_id,
            'eram_job_specs_job_id_seq' as name
        from eram_job_specs_job_id_seq as sequence
        union all
        select
            sequence.last_value + sequence.is_called::integer,
            (select max(workers.id) from eram_workers as workers),
            'eram_workers_id_seq'
        from eram_workers_id_seq as sequence
        union all
        select
            sequence.last_value + sequence.is_called::integer,
            (select max(runs.id) from eram_schedule_runs as runs),
            'eram_schedule_runs_id_seq'
        from eram_schedule_runs_id_seq as sequence
    ) as sequences
    where sequences.last_id >= sequences.next_id;
$$;

comment on function eram_check is
    'Every violated invariant of jobs and schedules, as a row. No row means healthy. Reads all '
    'jobs.';
