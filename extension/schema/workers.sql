-- Who runs jobs. A worker on a direct connection proves its life by an advisory lock of its
-- session, one behind a pooler by heartbeats. The row changes rarely: a row updated every
-- second would be what leaks while an old snapshot is held.

create table eram_workers (
    id              bigint      not null generated always as identity,
    name            text        not null,
    queues          text[]      not null,
    client_pid      integer,
    is_direct       boolean     not null,
    timeline        text        not null,
    stalled_after   interval    not null,
    started_at      timestamptz not null,
    heartbeat_at    timestamptz not null,
    missing_since   timestamptz,
    last_missing_at timestamptz,
    ended_at        timestamptz,
    end_reason      text,

    constraint eram_workers_pkey primary key (id),
    constraint eram_workers_end_reason_check check (end_reason in ('stopped', 'died', 'stalled')),
    constraint eram_workers_ended_check check ((ended_at is not null) = (end_reason is not null))
);

comment on table eram_workers is 'Workers, those that ended lately included.';
comment on column eram_workers.client_pid is
    'The backend process as the client sees it; another one on the server means a pooler.';
comment on column eram_workers.is_direct is
    'Whether the lock of the worker''s session proves its life; otherwise its heartbeats do.';
comment on column eram_workers.timeline is
    'The server''s timeline when the lock was taken: it differs after a failover.';
comment on column eram_workers.stalled_after is
    'A worker silent for so long has stalled, whatever its session says; zero means never.';
comment on column eram_workers.heartbeat_at is
    'The last heartbeat, to within a quarter of a minute.';
comment on column eram_workers.missing_since is
    'When the lock of the worker was first found absent; null while it is there.';
comment on column eram_workers.last_missing_at is
    'The last missing_since, kept when the lock is back: it tells how many were lost together.';

-- Each call of a rescue reads the living; those that ended pile up beside them.
create index eram_workers_living_idx on eram_workers (id) where ended_at is null;


create table eram_cancelled_runs (
    worker bigint  not null,
    job_id bigint  not null,
    run    integer not null,

    constraint eram_cancelled_runs_pkey primary key (worker, job_id, run)
);

comment on table eram_cancelled_runs is
    'Jobs cancelled while a worker ran them, until its heartbeat has told it.';
comment on column eram_cancelled_runs.run is
    'Which run of the job: one that was retried may be cancelled before it was told of the first.';

-- What a fetch hands to a worker. A type of its own, so that the arguments of eram_fetch() may
-- bear the names of what they mean.
create type eram_claimed_job as (
    id           bigint,
    run          integer,
    handler      text,
    args         jsonb,
    meta         jsonb,
    tags         text[],
    queue        text,
    priority     integer,
    attempt      integer,
    max_attempts integer,
    inserted_at  timestamptz,
    scheduled_at timestamptz,
    attempted_at timestamptz,
    timeout      interval
);

comment on type eram_claimed_job is
    'A job as eram_fetch() hands it out; a finish names its id and run.';
