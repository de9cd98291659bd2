-- What is measured, as Prometheus wants it: families of samples with labels.

create or replace function eram_metrics()
    returns table (name text, type text, help text, labels jsonb, value double precision)
    language sql
    volatile
    security definer
    set search_path from current
    set jit to off
as $$
    with families (position, name, type, help) as (
        values
            (1, 'eram_info', 'gauge', 'The version of eram, always 1.'),
            (2, 'eram_queue_waiting_jobs', 'gauge', 'Jobs that wait, due or not.'),
            (3, 'eram_queue_due_jobs', 'gauge', 'Jobs that could run now.'),
            (4, 'eram_queue_retryable_jobs', 'gauge', 'Jobs that wait after a failed attempt.'),
            (5, 'eram_queue_running_jobs', 'gauge', 'Jobs that a worker holds.'),
            (6, 'eram_queue_oldest_due_seconds', 'gauge', 'How long the oldest due job waits.'),
            (7, 'eram_queue_paused', 'gauge', 'Whether the queue is paused.'),
            (8, 'eram_queue_workers', 'gauge', 'Living workers that serve the queue.'),
            (9, 'eram_jobs_completed_total', 'counter', 'Jobs that were completed.'),
            (10, 'eram_attempts_failed_total', 'counter', 'Attempts that failed.'),
            (11, 'eram_jobs_discarded_total', 'counter', 'Jobs that were given up.'),
            (12, 'eram_jobs_cancelled_total', 'counter', 'Jobs that were cancelled.'),
            (
                13, 'eram_queue_wait_seconds', 'gauge',
                'How long the newest completed jobs waited from due to claimed.'
            ),
            (14, 'eram_queue_run_seconds', 'gauge', 'How long the newest completed jobs ran.'),
            (15, 'eram_workers', 'gauge', 'Workers that have not ended, by condition.'),
            (
                16, 'eram_schedule_failing', 'gauge',
                'Whether the last run of a schedule that is not paused went wrong.'
            ),
            (
                17, 'eram_health_level', 'gauge',
                'What eram_health() says: 0 ok, 1 warn, 2 critical, -1 unknown.'
            ),
            (18, 'eram_table_bytes', 'gauge', 'Size of a table with its indexes.'),
            (19, 'eram_table_dead_rows', 'gauge', 'Rows that a vacuum has to remove.'),
            (
                20, 'eram_oldest_snapshot_seconds', 'gauge',
                'Age of the oldest snapshot held by a session or a prepared transaction.'
            ),
            (
                21, 'eram_oldest_snapshot_transactions', 'gauge',
                'Transactions begun since the oldest snapshot held by anything.'
            )
    ),
    queues as materialized (
        select
            jsonb_build_object('queue', stats.queue) as labels,
            stats.*
        from eram_queue_stats as stats
    ),
    totals as materialized (
        select
            jsonb_build_object('queue', totals.queue) as labels,
            totals.*
        from eram_totals as totals
    ),
    latency as materialized (
        select *
        from eram_latency
    ),
    samples (name, labels, value) as (
        select
            'eram_info',
            jsonb_build_object('version', eram_version()),
            1
        union all
        select
            figures.name,
            queues.labels,
            figures.value
        from queues
        cross join lateral (
            values
                ('eram_queue_waiting_jobs', queues.waiting_count::double precision),
                ('eram_queue_due_jobs', queues.due_count),
                ('eram_queue_retryable_jobs', queues.retryable_count),
                ('eram_queue_running_jobs', queues.running_count),
                (
                    'eram_queue_oldest_due_seconds',
                    coalesce(extract(epoch from queues.oldest_due_age)::double precision, 0)
                ),
                ('eram_queue_paused', queues.is_paused::integer),
                ('eram_queue_workers', queues.worker_count)
        ) as figures (name, value)
        union all
        select
            figures.name,
            totals.labels,
            figures.value
        from totals
        cross join lateral (
            values
                ('eram_jobs_completed_total', totals.completed_count::double precision),
                ('eram_attempts_failed_total', totals.failed_count),
                ('eram_jobs_discarded_total', totals.discarded_count),
                ('eram_jobs_cancelled_total', totals.cancelled_count)
        ) as figures (name, value)
        union all
        select
            figures.name,
            jsonb_build_object('queue', latency.queue, 'quantile', figures.quantile),
            extract(epoch from figures.duration)::double precision
        from latency
        cross join lateral (
            values
                ('eram_queue_wait_seconds', '0.5', latency.wait_p50),
                ('eram_queue_wait_seconds', '0.95', latency.wait_p95),
                ('eram_queue_wait_seconds', '0.99', latency.wait_p99),
                ('eram_queue_run_seconds', '0.5', latency.run_p50),
                ('eram_queue_run_seconds', '0.95', latency.run_p95),
                ('eram_queue_run_seconds', '0.99', latency.run_p99)
        ) as figures (name, quantile, duration)
        union all
        select
            'eram_workers',
            jsonb_build_object('condition', conditions.condition),
            (
                select count(*)
                from eram_worker_stats as workers
                where workers.condition = conditions.condition
            )
        from unnest('{alive,missing,silent}'::text[]) as conditions (condition)
        union all
        select
            'eram_schedule_failing',
            jsonb_build_object('schedule', schedules.name),
            (schedules.last_error is not null)::integer
        from eram_schedules as schedules
        where not schedules.is_paused
        union all
        select
            'eram_health_level',
            jsonb_build_object('check', health.name),
            array_position('{unknown,ok,warn,critical}', health.level) - 2
        from eram_health() as health
        union all
        select
            figures.name,
            jsonb_build_object('table', tables.name),
            figures.value
        from _eram_table_states() as tables
        cross join lateral (
            values
                ('eram_table_bytes', tables.byte_count),
                ('eram_table_dead_rows', tables.dead_count)
        ) as figures (name, value)
        union all
        select
            figures.name,
            '{}',
            figures.value
        from (
            select
                max(extract(epoch from clock_timestamp() - holders.held_since)) as seconds,
                max(holders.transactions) as transactions
            from _eram_snapshot_holders() as holders
        ) as oldest
        cross join lateral (
            values
                (
                    'eram_oldest_snapshot_seconds',
                    case
                        when _eram_sees_all_sessions()
                        then coalesce(oldest.seconds, 0)::double precision
                    end
                ),
                ('eram_oldest_snapshot_transactions', coalesce(oldest.transactions, 0))
        ) as figures (name, value)
    )
    select
        families.name,
        families.type,
        families.help,
        samples.labels,
        samples.value
    from families
    join samples on samples.name = families.name
    where samples.value is not null
    order by
        families.position,
        samples.labels;
$$;

comment on function eram_metrics is
    'What the view eram_metrics shows; it is a function because the view runs what it calls as '
    'whoever reads it.';
