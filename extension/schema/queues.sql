-- What administrators set for a queue. Queues need no declaration: a queue without a row has
-- defaults.

create table eram_queues (
    name          text    not null,
    is_paused     boolean not null default false,
    is_notifying  boolean not null default true,
    is_announcing boolean not null default false,
    global_limit  integer,
    priority      smallint,
    max_attempts  integer,
    backoff       jsonb,
    max_age       jsonb,
    rescue_after  interval,

    constraint eram_queues_pkey primary key (name),
    constraint eram_queues_global_limit_check check (global_limit >= 1),
    constraint eram_queues_priority_check check (priority between 0 and 9),
    constraint eram_queues_max_attempts_check check (max_attempts >= 1),
    constraint eram_queues_max_age_check check (jsonb_typeof(max_age) = 'object'),
    constraint eram_queues_rescue_after_check check (rescue_after > interval '0')
);

comment on table eram_queues is
    'Settings of queues; a queue without a row, or a null in it, has the default.';
comment on column eram_queues.is_paused is
    'Whether claiming from the queue is suspended; what runs goes on.';
comment on column eram_queues.is_notifying is
    'Whether an enqueue wakes waiting workers; when off they find jobs by polling.';
comment on column eram_queues.is_announcing is
    'Whether whoever waits for the end of a job is notified of it.';
comment on column eram_queues.global_limit is
    'How many jobs of the queue may run at a time, over all workers; null is any number.';
comment on column eram_queues.backoff is 'How retries of jobs are delayed that set none.';
comment on column eram_queues.max_age is
    'How long jobs are kept after they ended, by state; for a state that is not in it, the general '
    'setting holds.';
comment on column eram_queues.rescue_after is
    'After what time a job is rescued whose worker cannot be judged.';

-- A completion looks here, and finds nothing where no queue announces.
create index eram_queues_announcing_idx on eram_queues (name) where is_announcing;

-- Kept from the settings, so that a completion need only look whether there is any row.
create table eram_removals (
    queue text not null,

    constraint eram_removals_pkey primary key (queue)
);

comment on table eram_removals is
    'Queues that keep no completed job; the empty name stands for those without a setting of their '
    'own.';
