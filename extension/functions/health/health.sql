-- Whether all is well, for whoever is on call: a row for each check, always all of them. It waits
-- for nobody but an exclusive lock on one of eram's tables, works at a standby, and reads no jobs
-- but the first ones of a queue: what it costs grows with queues, workers and schedules.

create or replace function _eram_health_version()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    select
        case
            when extensions.extversion <> eram_version() then 'critical'
            else 'ok'
        end,
        case
            when extensions.extversion <> eram_version() then format(
                'the extension is noted as %s, its functions are of %s',
                extensions.extversion, eram_version())
            else format(
                'eram %s on PostgreSQL %s', eram_version(), current_setting('server_version'))
        end,
        'python -m eram upgrade',
        current_setting('server_version_num')::double precision
    from (select) as always
    left join pg_catalog.pg_extension as extensions
        on extensions.extname = 'eram'
        and extensions.extnamespace = quote_ident(_eram_schema())::regnamespace;
$$;

create or replace function eram_health()
    returns table (
        name    text,
        level   text,
        finding text,
        meaning text,
        action  text,
        value   double precision
    )
    language sql
    volatile
    security definer
    set search_path from current
    set jit to off
as $$
    with found as materialized (
        select 'snapshot' as name, checks.* from _eram_health_snapshot() as checks
        union all
        select 'dead_tuples', checks.* from _eram_health_dead_tuples() as checks
        union all
        select 'autovacuum', checks.* from _eram_health_autovacuum() as checks
        union all
        select 'indexes', checks.* from _eram_health_indexes() as checks
        union all
        select 'ticker', checks.* from _eram_health_ticker() as checks
        union all
        select 'workers', checks.* from _eram_health_workers() as checks
        union all
        select checks.* from _eram_health_queues() as checks
        union all
        select 'schedules', checks.* from _eram_health_schedules() as checks
        union all
        select 'notifications', checks.* from _eram_health_notifications() as checks
        union all
        select 'sequences', checks.* from _eram_health_sequences() as checks
        union all
        select 'sizes', checks.* from _eram_health_sizes() as checks
        union all
        select 'version', checks.* from _eram_health_version() as checks
    ),
    meanings (position, name, meaning) as (
        values
            (
                1,
                'ticker',
                'Schedules, pruning and the rescue of dead workers'' jobs are done by whoever '
                'ticks: a worker, pg_cron, or python -m eram tick.'
            ),
            (
                2,
                'workers',
                'A worker that gives no sign of life is rescued from by the next tick; if it is '
                'not, the claim or the network that it hangs in lives on.'
            ),
            (
                3,
                'queues',
                'What is due in a queue runs only when a worker serves that queue, or when '
                'eram_move_jobs() has put it into another one.'
            ),
            (
                4,
                'backlog',
                'Jobs come in faster than workers take them, or a limit holds them back: '
                'eram_why() of the oldest one says which.'
            ),
            (
                5,
                'failures',
                'Failed attempts are retried and come to nothing while their cause lasts: a '
                'deployment or a service that jobs call is broken.'
            ),
            (
                6,
                'schedules',
                'What recurs was tried and failed, or waits for a ticker that may run commands: '
                'top-level ones and reindexing are for the owner of eram alone.'
            ),
            (
                7,
                'snapshot',
                'Rows that died since an old snapshot was taken cannot be removed as long as it '
                'is held: tables grow, and whatever walks over them gets slower. Ending a session '
                'undoes its transaction.'
            ),
            (
                8,
                'dead_tuples',
                'Sweeps and rescues walk over dead rows until a vacuum has removed them, which it '
                'cannot while an old snapshot is held.'
            ),
            (
                9,
                'autovacuum',
                'Tables of a queue need frequent vacuuming; without it they grow and get slow, and '
                'in the end the server refuses to write.'
            ),
            (
                10,
                'notifications',
                'A session that listens stays in one transaction and holds up the queue of '
                'notifications; once it is full, transactions that notify fail.'
            ),
            (
                11,
                'indexes',
                'An invalid index is written and never read; a unique one guards nothing. A '
                'reindexing or a CREATE INDEX CONCURRENTLY was cut off.'
            ),
            (
                12,
                'sequences',
                'When a sequence is used up, nothing more can be enqueued. Nobody gets there by '
                'counting: it was set too high, or given an end.'
            ),
            (
                13,
                'sizes',
                'A crowd of jobs has gone and left its room behind: it is reused, but not given '
                'back. VACUUM FULL gives it back, and stops the queues meanwhile.'
            ),
            (
                14,
                'version',
                'The functions are those of another version than the one that was installed.'
            )
    )
    select
        found.name,
        found.level,
        found.finding,
        case
            when found.level = 'unknown'
            then 'A role without pg_read_all_stats sees of others'' sessions only that they are '
                'there.'
            else meanings.meaning
        end,
        case when found.level <> 'ok' then found.action end,
        found.value
    from found
    join meanings on meanings.name = found.name
    order by
        _eram_health_rank(found.level),
        meanings.position;
$$;

comment on function eram_health is
    'Whether all is well, one row per check, the worst first: its level (ok, warn, critical, or '
    'unknown where eram''s owner may not see what is needed), what was found, what that means, and '
    'what to do about it: statements that end in a semicolon, a command of the shell, or a '
    'sentence; null when there is nothing to do. value is the number that was judged. It reads no '
    'jobs but the first of each queue, and raises no error.';
