-- What administrators set for a queue. Queues need no declaration: a queue without a row has
-- defaults.

create table eram_queues (
    name         text    not null,
    is_paused    boolean not null default false,
    is_notifying boolean not null default true,
    priority     smallint,
    max_attempts integer,
    backoff      jsonb,

    constraint eram_queues_pkey primary key (name),
    constraint eram_queues_priority_check check (priority between 0 and 9),
    constraint eram_queues_max_attempts_check check (max_attempts >= 1)
);

comment on table eram_queues is
    'Settings of queues; a queue without a row, or a null in it, has the default.';
comment on column eram_queues.is_paused is
    'Whether claiming from the queue is suspended; what runs goes on.';
comment on column eram_queues.is_notifying is
    'Whether an enqueue wakes waiting workers; when off they find jobs by polling.';
comment on column eram_queues.backoff is 'How retries of jobs are delayed that set none.';
