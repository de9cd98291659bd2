-- pg-boss's tables as version 12 makes them, as far as moving jobs needs them.
create schema pgboss;

create type pgboss.job_state as enum (
    'created', 'retry', 'active', 'completed', 'cancelled', 'failed');

create table pgboss.queue (name text primary key, policy text not null default 'standard');

create table pgboss.job (
    id uuid not null default gen_random_uuid(),
    name text not null,
    priority integer not null default 0,
    data jsonb,
    state pgboss.job_state not null default 'created',
    retry_limit integer not null default 2,
    retry_count integer not null default 0,
    retry_delay integer not null default 0,
    retry_backoff boolean not null default false,
    expire_seconds integer not null default 900,
    singleton_key text,
    start_after timestamptz not null default now(),
    created_on timestamptz not null default now(),
    started_on timestamptz,
    completed_on timestamptz,
    output jsonb,
    blocked boolean not null default false,
    blocking boolean not null default false
) partition by list (name);

create table pgboss.job_common partition of pgboss.job default;
alter table pgboss.job_common add primary key (name, id);

create table pgboss.schedule (
    name text references pgboss.queue on delete cascade,
    key text not null default '',
    kind text not null default 'cron',
    cron text not null,
    timezone text default 'UTC',
    data jsonb,
    options jsonb,
    primary key (name, key)
);

insert into pgboss.queue (name) values ('email'), ('report'), ('digest'), ('other');

insert into pgboss.job (name, priority, data, state, retry_limit, start_after)
values
    ('email', 0, '{"to": "ada@example.com"}', 'created', 2, default),
    ('email', 10, '{"to": "grace@example.com"}', 'created', 2, '2031-01-01 12:00+00'),
    ('email', 0, '{"to": "emmy@example.com"}', 'active', 2, default),
    ('other', 0, null, 'created', 2, default);
insert into pgboss.job (name, data, singleton_key) values ('email', '[1, 2]', 'list');
-- It has failed twice: the first retry counted when it was fetched.
insert into pgboss.job (name, data, state, retry_count, started_on)
values ('report', '{"month": "2026-11"}', 'retry', 1, now());
-- A flow: the second waits for the first.
insert into pgboss.job (name, data, blocked, blocking)
values ('email', '{"step": 1}', false, true), ('email', '{"step": 2}', true, false);

insert into pgboss.schedule (name, key, cron, timezone, data)
values
    ('digest', '', '0 7 * * *', 'UTC', null),
    ('digest', 'eu', '30 8 * * *', 'Europe/Berlin', '{"to": "all"}');
