-- Which job has which unique key. A key is in force until its job ends, or until its window does.
-- Whoever takes several keys takes them in order of the key, before any ticket.

create table eram_unique_keys (
    key        bytea       not null,
    job_id     bigint      not null,
    expires_at timestamptz,

    constraint eram_unique_keys_pkey primary key (key)
);

comment on table eram_unique_keys is
    'Unique keys: while one is in force, no other job is enqueued that would have it.';
comment on column eram_unique_keys.key is
    'A digest of what must be unique: handler, queue and args, or what the producer chose.';
comment on column eram_unique_keys.job_id is
    'The job that has it, which may have ended and been pruned since.';
comment on column eram_unique_keys.expires_at is
    'When the window ends; null when it is in force until its job ends.';

create index eram_unique_keys_expires_at_idx on eram_unique_keys (expires_at)
    where expires_at is not null;

alter table eram_unique_keys set (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
