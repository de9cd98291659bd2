-- procrastinate's tables as its schema makes them, as far as moving jobs needs them.
create type procrastinate_job_status as enum (
    'todo', 'doing', 'succeeded', 'failed', 'cancelled', 'aborting', 'aborted');

create table procrastinate_jobs (
    id bigserial primary key,
    queue_name character varying(128) not null,
    task_name character varying(128) not null,
    priority integer default 0 not null,
    lock text,
    queueing_lock text,
    args jsonb default '{}' not null,
    status procrastinate_job_status default 'todo' not null,
    scheduled_at timestamptz,
    attempts integer default 0 not null,
    abort_requested boolean default false not null,
    worker_id bigint,
    constraint check_not_todo_abort_requested check (not (status = 'todo' and abort_requested))
);

create table procrastinate_periodic_defers (
    id bigserial primary key,
    task_name character varying(128) not null,
    defer_timestamp bigint,
    job_id bigint references procrastinate_jobs (id),
    periodic_id character varying(128) not null default ''
);

create unique index procrastinate_jobs_queueing_lock_idx_v1
    on procrastinate_jobs (queueing_lock) where status = 'todo';

insert into procrastinate_jobs
    (queue_name, task_name, priority, lock, queueing_lock, args, status, scheduled_at, attempts)
values
    ('mail', 'shop.tasks.email', 0, 'ada', null, '{"to": "ada@example.com"}', 'todo', null, 0),
    ('mail', 'shop.tasks.email', 7, null, null, '{"to": "grace@example.com"}', 'todo', null, 1),
    ('default', 'shop.tasks.digest', 0, null, 'digest', '{}', 'todo', '2031-01-01 12:00+00', 0),
    ('mail', 'shop.tasks.email', 0, null, null, '{"to": "emmy@example.com"}', 'doing', null, 0),
    ('other', 'shop.tasks.other', 0, null, null, '{}', 'todo', null, 0);

insert into procrastinate_periodic_defers (task_name, defer_timestamp, job_id)
values ('shop.tasks.digest', 1924981200, 3);
