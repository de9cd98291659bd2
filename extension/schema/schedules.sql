-- What recurs, cron jobs and maintenance alike. The entry of a schedule is locked, carried out
-- and advanced in one transaction, so that any number of tickers do each occurrence once.

create table eram_schedules (
    name           text        not null,
    action         text        not null,
    schedule       text        not null,
    timezone       text        not null,

    job            jsonb,
    command        text,
    options        jsonb,
    timeout        interval,
    missed         text        not null,
    allows_overlap boolean     not null,
    is_paused      boolean     not null default false,
    declared_by    text,

    next_run_at    timestamptz,
    last_run_at    timestamptz,
    last_job_id    bigint,
    last_error     text,
    run_count      bigint      not null default 0,
    inserted_at    timestamptz not null,

    constraint eram_schedules_pkey primary key (name),
    constraint eram_schedules_action_check check (
        action in (
            'job', 'sql', 'top_level', 'prune', 'lifeline', 'recorder', 'reindexer')),
    constraint eram_schedules_job_check check ((job is not null) = (action = 'job')),
    constraint eram_schedules_command_check check (
        (command is not null) = (action in ('sql', 'top_level'))),
    constraint eram_schedules_options_check check (
        (options is not null) = (action in ('prune', 'lifeline', 'recorder', 'reindexer'))),
    constraint eram_schedules_timeout_check check (
        (timeout is not null) = (action in ('sql', 'top_level'))),
    constraint eram_schedules_missed_check check (missed in ('skip', 'once', 'all')),
    constraint eram_schedules_paused_check check (not (is_paused and next_run_at is not null))
);

comment on table eram_schedules is
    'What recurs: when, what is done, how the last time went, and when the next is.';
comment on column eram_schedules.action is
    'job: enqueue one; sql, top_level: run a command, the latter outside of any transaction block; '
    'prune, lifeline, recorder, reindexer: maintenance.';
comment on column eram_schedules.schedule is
    'Five cron fields, @daily and its like, or an interval such as 30 seconds.';
comment on column eram_schedules.timezone is 'Where the times of cron fields are local.';
comment on column eram_schedules.job is 'The job to enqueue, as eram_enqueue_job() takes it.';
comment on column eram_schedules.command is 'The SQL to run, with the rights of eram''s owner.';
comment on column eram_schedules.options is 'How maintenance is done.';
comment on column eram_schedules.missed is
    'What becomes of occurrences that nobody was there for: skip, once for all of them, all.';
comment on column eram_schedules.allows_overlap is
    'Whether a job is enqueued while the last one is unfinished.';
comment on column eram_schedules.is_paused is 'Whether it is suspended.';
comment on column eram_schedules.declared_by is
    'The application whose configuration declares it; null is an administrator, or eram itself.';
comment on column eram_schedules.next_run_at is 'Null while it is paused.';
comment on column eram_schedules.last_run_at is 'When it was last carried out.';
comment on column eram_schedules.last_job_id is 'The job enqueued last.';
comment on column eram_schedules.last_error is 'What went wrong the last time; null is all well.';
comment on column eram_schedules.run_count is 'How often it was carried out.';

create index eram_schedules_next_run_at_idx on eram_schedules (next_run_at)
    where next_run_at is not null;

-- Commands cannot be carried out where they are found due: one that ends its session would take
-- the record of its attempt with it, and be tried for ever.
create table eram_schedule_runs (
    id            bigint      not null generated always as identity,
    name          text        not null,
    scheduled_for timestamptz not null,
    command       text        not null,
    is_top_level  boolean     not null,
    timeout       interval    not null,
    taken_at      timestamptz,
    begun_at      timestamptz,

    constraint eram_schedule_runs_pkey primary key (id)
);

comment on table eram_schedule_runs is
    'Commands of schedules from when they are due until it is known how they ended.';
comment on column eram_schedule_runs.name is 'The schedule that the command is of.';
comment on column eram_schedule_runs.scheduled_for is 'The occurrence of the schedule.';
comment on column eram_schedule_runs.command is 'The SQL to run.';
comment on column eram_schedule_runs.is_top_level is
    'Whether it must be run outside of any transaction block.';
comment on column eram_schedule_runs.taken_at is 'When a ticker took it to run it.';
comment on column eram_schedule_runs.begun_at is
    'When a session began to run it that holds a lock as long as it lives.';

-- An install script must not make rows, so the first tick makes those of maintenance. What an
-- administrator has removed must not come back with the second.
create table eram_unscheduled (
    name text not null,

    constraint eram_unscheduled_pkey primary key (name)
);

comment on table eram_unscheduled is 'Maintenance that an administrator has removed.';

-- What an application's configuration says. It is kept apart from the entries: an entry may have
-- been removed by an administrator, or be that of another application which declares the same.
create table eram_declared_schedules (
    application text        not null,
    name        text        not null,
    declared    jsonb       not null,
    declared_at timestamptz not null,

    constraint eram_declared_schedules_pkey primary key (application, name)
);

comment on table eram_declared_schedules is
    'What applications have declared of schedules, to see whether a declaration has changed.';
comment on column eram_declared_schedules.application is 'Whose configuration it is.';
comment on column eram_declared_schedules.declared is
    'The declaration, with what it left out filled in.';
comment on column eram_declared_schedules.declared_at is 'When it was declared like this first.';
