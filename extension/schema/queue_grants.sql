-- Roles that may enqueue to some queues only. Names, because OIDs do not survive a dump, and a name
-- that is nobody's does not fail a restore.

create table eram_queue_grants (
    role  text not null,
    queue text not null,

    constraint eram_queue_grants_pkey primary key (role, queue)
);

comment on table eram_queue_grants is
    'The queues of roles that were granted to enqueue to these only; all others may to any.';
comment on column eram_queue_grants.role is 'The role that was granted it.';
