-- What a job is, and where it is. The spec says what to run and is written once. The ticket of
-- a job is in exactly one of eram_queued_jobs, eram_running_jobs, eram_finished_jobs: that
-- place is the job's state. A ticket is never updated, only deleted here and inserted there in
-- one statement, and it is short, so that a move costs little and leaves little behind.
--
-- No foreign keys, no triggers and, on the tables of every job, no checks: the executor prepares
-- each check anew for each statement, a microsecond apiece, which made them a quarter of the cost
-- of an enqueue. eram_check() is the guard.
-- Whoever waits for several tickets takes them in order of job_id.

create table eram_job_specs (
    job_id       bigint      not null generated always as identity,

    handler      text        not null,
    args         jsonb       not null,
    meta         jsonb,
    tags         text[]      not null,

    queue        text        not null,
    priority     smallint    not null,
    max_attempts integer     not null,
    backoff      jsonb,
    timeout      interval,

    unique_by    jsonb,
    unique_key   bytea,
    unique_until timestamptz,

    inserted_at  timestamptz not null,
    scheduled_at timestamptz not null,

    constraint eram_job_specs_pkey primary key (job_id)
);

comment on table eram_job_specs is 'What to run: one row per job, written when it is enqueued.';
comment on column eram_job_specs.meta is
    'What producers note beside the arguments; null when they note nothing.';
comment on column eram_job_specs.backoff is 'How retries are delayed; null is exponential.';
comment on column eram_job_specs.unique_by is
    'What makes the job unique, and for how long; null when it need not be.';
comment on column eram_job_specs.unique_key is
    'The digest of it, which no other job may have at the same time.';
comment on column eram_job_specs.unique_until is
    'When the window ends that its unique key is for; null when that is when the job ends.';
comment on column eram_job_specs.scheduled_at is
    'When the job was to run first, as asked for by the producer.';

create index eram_jobs_args_index on eram_job_specs using gin (args jsonb_path_ops);
-- Most jobs have no meta, and an empty object would cost an entry like any other: a sixth of what
-- an enqueue writes. Whoever asks what meta contains asks by a strict operator: the index serves.
create index eram_jobs_meta_index on eram_job_specs using gin (meta jsonb_path_ops)
    where meta is not null;

-- The primary key is the order of claiming: everything that a claim reads lies side by side.
create table eram_queued_jobs (
    job_id       bigint      not null,
    scheduled_at timestamptz not null,
    run          integer     not null,
    attempt      integer     not null,
    lane         smallint    not null,
    queue        text        not null,
    unique_key   bytea,

    constraint eram_queued_jobs_pkey primary key (queue, lane, scheduled_at, job_id)
);

comment on table eram_queued_jobs is 'Jobs that wait: available, scheduled and retryable ones.';
comment on column eram_queued_jobs.lane is
    'Twice the priority, plus one unless the job came back (released, rescued) or was changed when '
    'it was due: those go first.';
comment on column eram_queued_jobs.run is 'The last run handed out; it only grows.';
comment on column eram_queued_jobs.attempt is
    'Attempts used up, which people see and max_attempts bounds.';
comment on column eram_queued_jobs.unique_key is
    'That of the spec: whoever ends the job gives it up without looking there.';

create unique index eram_queued_jobs_job_id_idx on eram_queued_jobs (job_id);

create table eram_running_jobs (
    job_id       bigint      not null,
    worker       bigint      not null,
    attempted_at timestamptz not null,
    run          integer     not null,
    attempt      integer     not null,
    lane         smallint    not null,
    queue        text        not null,
    unique_key   bytea,

    constraint eram_running_jobs_pkey primary key (job_id)
);

comment on table eram_running_jobs is 'Jobs that a worker holds.';
comment on column eram_running_jobs.lane is 'The lane that the job was claimed from.';
comment on column eram_running_jobs.unique_key is 'That of the spec.';
comment on column eram_running_jobs.run is
    'The fence: a finish is accepted only from the run that it names.';

create table eram_finished_jobs (
    job_id       bigint      not null,
    worker       bigint,
    attempted_at timestamptz,
    finalized_at timestamptz not null,
    run          integer     not null,
    attempt      integer     not null,
    state        text        not null,
    queue        text        not null,
    result       jsonb,

    constraint eram_finished_jobs_pkey primary key (job_id)
);

comment on table eram_finished_jobs is 'Jobs that ended: completed, discarded and cancelled ones.';
comment on column eram_finished_jobs.run is
    'The last run; that of a job cancelled while it waited is one that nobody had.';
comment on column eram_finished_jobs.worker is
    'The worker of the last run; null when the job never ran.';

-- Nearly every job completes, so the rare ends are found by an index that completions do not touch.
create index eram_finished_jobs_state_idx on eram_finished_jobs (state, queue, finalized_at)
    where state <> 'completed';

-- By it the prune finds completed jobs. One row for a whole batch costs the completion of a job a
-- few bytes, where an entry for each job in an index on eram_finished_jobs would cost seventy.
create table eram_completions (
    queue        text        not null,
    finalized_at timestamptz not null,
    ids          bigint[]    not null,
    is_repeated  boolean
);

comment on table eram_completions is
    'Which jobs were completed when, one row per call and queue. A job in it may since have been '
    'retried, or removed.';
comment on column eram_completions.finalized_at is 'When the last one of them ended.';
comment on column eram_completions.ids is 'The jobs.';
comment on column eram_completions.is_repeated is
    'True in a row that the prune wrote, of jobs that another row had named before; otherwise '
    'null, which costs nothing.';

create index eram_completions_queue_idx on eram_completions (queue, finalized_at);

-- It has no key: rows alike are as good as one another. Without this, a publication of all tables
-- would make every prune fail.
alter table eram_completions replica identity full;

create table eram_job_errors (
    job_id     bigint      not null,
    run        integer     not null,
    attempt    integer     not null,
    worker     bigint,
    errored_at timestamptz not null,
    error      text        not null,
    detail     jsonb       not null,

    constraint eram_job_errors_pkey primary key (job_id, run),
    constraint eram_job_errors_detail_check check (jsonb_typeof(detail) = 'object')
);

-- The latest failures, of whatever job.
create index eram_job_errors_errored_at_idx on eram_job_errors (errored_at);

comment on table eram_job_errors is 'One row per run that did not end well.';
comment on column eram_job_errors.run is 'The run that did not end well.';
comment on column eram_job_errors.detail is
    'What the worker adds to the message, such as {"type": ..., "traceback": ...}.';

-- Tickets come and go by the thousand: vacuum them early, without pauses, and do not shrink
-- files that grow again at once (truncation takes an exclusive lock).
alter table eram_queued_jobs set (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
alter table eram_running_jobs set (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
alter table eram_finished_jobs set (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = off);
alter table eram_completions set (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = off);
alter table eram_job_specs set (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = off);
