-- What people query. A state is a literal in its branch, so that a query for one state reads
-- one place. The planner cannot merge these branches in order of id; whoever wants the newest
-- first reads eram_latest_jobs, which starts from the specs.

create view eram_jobs as
select
    specs.job_id as id,
    places.state,
    places.queue,
    specs.handler,
    specs.args,
    specs.meta,
    specs.tags,
    places.attempt,
    specs.max_attempts,
    specs.priority::integer as priority,
    (
        select jsonb_agg(
            errors.detail || jsonb_build_object(
                'attempt', errors.attempt,
                'at', errors.errored_at,
                'error', errors.error,
                'worker', (
                    select workers.name
                    from eram_workers as workers
                    where workers.id = errors.worker
                ))
            order by errors.run)
        from eram_job_errors as errors
        where errors.job_id = specs.job_id
    ) as errors,
    (
        select workers.name
        from eram_workers as workers
        where workers.id = places.worker
    ) as attempted_by,
    specs.inserted_at,
    coalesce(places.scheduled_at, specs.scheduled_at) as scheduled_at,
    places.attempted_at,
    places.finalized_at,
    places.result
from eram_job_specs as specs
join (
    select
        job_id,
        'available' as state,
        queue,
        attempt,
        scheduled_at,
        null::bigint as worker,
        null::timestamptz as attempted_at,
        null::timestamptz as finalized_at,
        null::jsonb as result
    from eram_queued_jobs
    where scheduled_at <= statement_timestamp()
    union all
    select job_id, 'scheduled', queue, attempt, scheduled_at, null, null, null, null
    from eram_queued_jobs
    where scheduled_at > statement_timestamp() and attempt = 0
    union all
    select job_id, 'retryable', queue, attempt, scheduled_at, null, null, null, null
    from eram_queued_jobs
    where scheduled_at > statement_timestamp() and attempt > 0
    union all
    select job_id, 'executing', queue, attempt, null, worker, attempted_at, null, null
    from eram_running_jobs
    union all
    select job_id, 'completed', queue, attempt, null, worker, attempted_at, finalized_at, result
    from eram_finished_jobs
    where state = 'completed'
    union all
    select job_id, 'discarded', queue, attempt, null, worker, attempted_at, finalized_at, result
    from eram_finished_jobs
    where state = 'discarded'
    union all
    select job_id, 'cancelled', queue, attempt, null, worker, attempted_at, finalized_at, result
    from eram_finished_jobs
    where state = 'cancelled'
) as places on places.job_id = specs.job_id;

comment on view eram_jobs is
    'One row per job, whatever became of it. For the newest jobs first read eram_latest_jobs.';

create view eram_latest_jobs as
select
    specs.job_id as id,
    case
        when running.job_id is not null then 'executing'
        when finished.job_id is not null then finished.state
        when queued.scheduled_at <= statement_timestamp() then 'available'
        when queued.attempt > 0 then 'retryable'
        else 'scheduled'
    end as state,
    coalesce(running.queue, finished.queue, queued.queue) as queue,
    specs.handler,
    specs.args,
    specs.meta,
    specs.tags,
    coalesce(running.attempt, finished.attempt, queued.attempt) as attempt,
    specs.max_attempts,
    specs.priority::integer as priority,
    (
        select jsonb_agg(
            errors.detail || jsonb_build_object(
                'attempt', errors.attempt,
                'at', errors.errored_at,
                'error', errors.error,
                'worker', (
                    select workers.name
                    from eram_workers as workers
                    where workers.id = errors.worker
                ))
            order by errors.run)
        from eram_job_errors as errors
        where errors.job_id = specs.job_id
    ) as errors,
    (
        select workers.name
        from eram_workers as workers
        where workers.id = coalesce(running.worker, finished.worker)
    ) as attempted_by,
    specs.inserted_at,
    coalesce(queued.scheduled_at, specs.scheduled_at) as scheduled_at,
    coalesce(running.attempted_at, finished.attempted_at) as attempted_at,
    finished.finalized_at,
    finished.result
from eram_job_specs as specs
left join eram_queued_jobs as queued on queued.job_id = specs.job_id
left join eram_running_jobs as running on running.job_id = specs.job_id
left join eram_finished_jobs as finished on finished.job_id = specs.job_id;

comment on view eram_latest_jobs is
    'The rows of eram_jobs, made for "order by id desc limit n": it reads only as far as the '
    'limit.';

create view eram_errors as
select
    errors.job_id,
    specs.queue,
    specs.handler,
    errors.run,
    errors.attempt,
    errors.errored_at,
    (
        select workers.name
        from eram_workers as workers
        where workers.id = errors.worker
    ) as attempted_by,
    errors.error,
    errors.detail ->> 'type' as type,
    errors.detail ->> 'traceback' as traceback
from eram_job_errors as errors
join eram_job_specs as specs on specs.job_id = errors.job_id;

comment on view eram_errors is
    'One row per attempt that did not end well: failed, cancelled, discarded by its handler, or '
    'taken back from a worker that had died. It goes when the job does.';
