-- What people look at when they look at the whole: queues, handlers, workers, rates, times. The
-- work is done by functions, whose plans do not depend on statistics of tables that fill and empty
-- within minutes.

create view eram_queue_stats as
with listening as (
    select
        names.queue,
        count(*) as worker_count
    from eram_workers as workers
    cross join lateral (select distinct unnest(workers.queues)) as names (queue)
    where workers.ended_at is null
    group by names.queue
)
select
    queue,
    coalesce(queues.is_paused, false) as is_paused,
    coalesce(counts.waiting_count, 0) as waiting_count,
    coalesce(counts.due_count, 0) as due_count,
    coalesce(counts.retryable_count, 0) as retryable_count,
    statement_timestamp() - counts.oldest_due_at as oldest_due_age,
    coalesce(counts.running_count, 0) as running_count,
    queues.global_limit,
    coalesce(counts.completed_per_minute, 0) as completed_per_minute,
    coalesce(counts.failed_per_minute, 0) as failed_per_minute,
    coalesce(listening.worker_count, 0) as worker_count,
    coalesce(counts.is_estimate, false) as is_estimate
from eram_count_jobs() as counts
full join listening using (queue)
full join (
    select
        name as queue,
        is_paused,
        global_limit
    from eram_queues
) as queues using (queue);

comment on view eram_queue_stats is
    'One row per queue that has jobs, workers or settings: what waits, what is due, what runs, '
    'what the last minute brought, who works.';
comment on column eram_queue_stats.waiting_count is
    'Jobs that are available, scheduled or retryable.';
comment on column eram_queue_stats.due_count is 'Those of them that could run now.';
comment on column eram_queue_stats.retryable_count is
    'Those of them that have used up attempts.';
comment on column eram_queue_stats.oldest_due_age is
    'How long ago the job was due that is due for longest.';
comment on column eram_queue_stats.running_count is 'Jobs that workers hold.';
comment on column eram_queue_stats.completed_per_minute is
    'Jobs that were completed within the last minute.';
comment on column eram_queue_stats.failed_per_minute is
    'Attempts that failed within the last minute, of jobs that are still there. Of all queues '
    'together the newest 10,000 are looked at.';
comment on column eram_queue_stats.worker_count is 'Living workers that serve the queue.';
comment on column eram_queue_stats.is_estimate is
    'Whether counts above 10,000 are estimates; smaller ones are exact unless a great many queues '
    'have thousands each.';

create view eram_handler_stats as
select
    counts.handler,
    counts.running_count,
    counts.completed_count,
    counts.failed_count,
    counts.discarded_count,
    counts.wait_times[1] as wait_p50,
    counts.wait_times[2] as wait_p95,
    counts.run_times[1] as run_p50,
    counts.run_times[2] as run_p95,
    counts.last_errored_at,
    counts.last_error,
    counts.is_estimate
from eram_count_handlers() as counts;

comment on view eram_handler_stats is
    'One row per handler: what runs, and what of the jobs that are still there ended in the last '
    'hour, but of each kind the newest 10,000 at most.';
comment on column eram_handler_stats.failed_count is 'Attempts that failed.';
comment on column eram_handler_stats.wait_p50 is
    'What half of the first runs waited at most, from due to claimed.';
comment on column eram_handler_stats.wait_p95 is 'What 95 % of them waited at most.';
comment on column eram_handler_stats.run_p50 is
    'What half of the last runs took at most, from claimed to completed.';
comment on column eram_handler_stats.run_p95 is 'What 95 % of them took at most.';
comment on column eram_handler_stats.last_error is 'The message of the latest failure.';
comment on column eram_handler_stats.is_estimate is
    'Whether there was more than is counted here.';

create view eram_worker_stats as
select
    workers.id as worker,
    workers.name,
    workers.queues,
    case
        when
            case
                when not workers.is_direct
                then statement_timestamp() - workers.heartbeat_at > interval '60 seconds'
                when workers.stalled_after > interval '0'
                then statement_timestamp() - workers.heartbeat_at > workers.stalled_after
                else false
            end
        then 'silent'
        -- On a standby there is no lock of the primary's to be seen.
        when workers.is_direct and held.worker is null and not pg_is_in_recovery() then 'missing'
        else 'alive'
    end as condition,
    workers.started_at,
    workers.heartbeat_at,
    workers.is_direct,
    workers.client_pid,
    coalesce(running.count, 0) as running_count,
    running.oldest_at as oldest_attempted_at
from eram_workers as workers
left join (
    select
        jobs.worker,
        count(*) as count,
        min(jobs.attempted_at) as oldest_at
    from eram_running_jobs as jobs
    group by jobs.worker
) as running on running.worker = workers.id
left join (
    select distinct locks.objid::bigint as worker
    from pg_catalog.pg_locks as locks
    where
        locks.locktype = 'advisory'
        and locks.granted
        and locks.objsubid = 2
        and locks.classid = 'eram_workers'::regclass
        and locks.database = (
            select databases.oid
            from pg_catalog.pg_database as databases
            where databases.datname = current_database()
        )
) as held on held.worker = workers.id % 2147483647
where workers.ended_at is null;

comment on view eram_worker_stats is
    'One row per living worker: whether it gives signs of life, and what it runs.';
comment on column eram_worker_stats.condition is
    'alive; missing: the lock of its session is absent, and if it stays so it is declared dead '
    'within seconds; silent: it has sent no heartbeat for as long as it may, and is about to be '
    'declared stalled or dead.';
comment on column eram_worker_stats.is_direct is
    'Whether the lock of its session proves its life; otherwise its heartbeats do.';
comment on column eram_worker_stats.client_pid is
    'The backend process of its session, as the client sees it.';
comment on column eram_worker_stats.oldest_attempted_at is
    'Since when it has been running what it has run for longest.';

create view eram_throughput as
select
    minutes.minute,
    minutes.queue,
    minutes.completed_count,
    minutes.failed_count,
    minutes.discarded_count,
    minutes.cancelled_count,
    minutes.waiting_count,
    minutes.running_count,
    minutes.wait_times[1] as wait_p50,
    minutes.wait_times[2] as wait_p95,
    minutes.wait_times[3] as wait_p99,
    minutes.run_times[1] as run_p50,
    minutes.run_times[2] as run_p95,
    minutes.run_times[3] as run_p99
from eram_count_minutes() as minutes;

comment on view eram_throughput is
    'The last hour: one row per minute and queue in which anything happened or waited.';
comment on column eram_throughput.minute is 'Its beginning.';
comment on column eram_throughput.failed_count is 'Attempts that failed.';
comment on column eram_throughput.waiting_count is
    'How many jobs waited when it was recorded; null in a minute that is not recorded yet.';
comment on column eram_throughput.running_count is 'How many ran then.';
comment on column eram_throughput.wait_p50 is
    'What half of a sample waited at most, from due to claimed; first runs only. Null where the '
    'queue keeps no completed jobs, or none was completed.';
comment on column eram_throughput.run_p50 is
    'What half of a sample took at most, from claimed to completed.';

create view eram_latency as
select
    times.queue,
    times.sample_count,
    times.wait_times[1] as wait_p50,
    times.wait_times[2] as wait_p95,
    times.wait_times[3] as wait_p99,
    times.run_times[1] as run_p50,
    times.run_times[2] as run_p95,
    times.run_times[3] as run_p99,
    times.newest_at
from eram_measure_latency() as times;

comment on view eram_latency is
    'How long the newest jobs of each queue waited and took: those completed within the last hour, '
    'and at most 1,000 a queue, or fewer where there are many queues.';
comment on column eram_latency.sample_count is 'How many jobs were looked at.';
comment on column eram_latency.wait_p50 is
    'What half of them waited at most, from due to claimed; first runs only.';
comment on column eram_latency.run_p50 is
    'What half of them took at most, from claimed to completed.';
comment on column eram_latency.newest_at is 'When the latest of them was completed.';
