-- Oban's table as its migrations make it up to version 14, as far as moving jobs needs it.
create type oban_job_state as enum (
    'available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded',
    'cancelled');

create table oban_jobs (
    id bigserial primary key,
    state oban_job_state not null default 'available',
    queue text not null default 'default',
    worker text not null,
    args jsonb not null default '{}',
    errors jsonb[] not null default '{}',
    attempt integer not null default 0,
    max_attempts integer not null default 20,
    inserted_at timestamp not null default timezone('UTC', now()),
    scheduled_at timestamp not null default timezone('UTC', now()),
    attempted_at timestamp,
    completed_at timestamp,
    attempted_by text[],
    discarded_at timestamp,
    priority integer not null default 0,
    tags text[] default '{}',
    meta jsonb default '{}',
    cancelled_at timestamp
);

insert into oban_jobs (state, queue, worker, args, attempt, max_attempts, scheduled_at, tags)
values
    ('available', 'mail', 'Shop.Workers.Email', '{"to": "ada@example.com"}', 0, 20, default, '{}'),
    ('scheduled', 'mail', 'Shop.Workers.Email', '{"to": "alan@example.com"}', 0, 20,
        '2031-01-01 12:00', '{spring}'),
    ('retryable', 'reports', 'Shop.Workers.Report', '{"month": "2026-11"}', 3, 5, default, '{}'),
    ('executing', 'mail', 'Shop.Workers.Email', '{"to": "emmy@example.com"}', 1, 20, default, '{}'),
    ('available', 'other', 'Shop.Workers.Other', '{}', 0, 20, default, '{}'),
    ('completed', 'mail', 'Shop.Workers.Email', '{"to": "kurt@example.com"}', 1, 20, default, '{}');
