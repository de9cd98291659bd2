-- What jobs of a handler have unless the producer says otherwise. What the code declares and what
-- an administrator has set are kept apart, so that a deployment does not undo the latter; the
-- columns beside them are what holds, made of both when either changes.

create table eram_handlers (
    name          text        not null,
    alias_of      text,

    queue         text,
    priority      smallint,
    max_attempts  integer,
    tags          text[],
    meta          jsonb,
    backoff       jsonb,
    timeout       interval,
    unique_by     jsonb,

    declared      jsonb       not null,
    overrides     jsonb       not null,
    registered_at timestamptz,

    constraint eram_handlers_pkey primary key (name),
    constraint eram_handlers_alias_of_check check (alias_of <> name),
    constraint eram_handlers_declared_check check (jsonb_typeof(declared) = 'object'),
    constraint eram_handlers_overrides_check check (jsonb_typeof(overrides) = 'object')
);

comment on table eram_handlers is
    'Defaults of handlers'' jobs, and other names of handlers. What is null is the queue''s '
    'default, else eram''s.';
comment on column eram_handlers.alias_of is
    'The handler that this is another name of; null when it is a handler itself.';
comment on column eram_handlers.backoff is 'How retries are delayed.';
comment on column eram_handlers.unique_by is 'What makes its jobs unique, and for how long.';
comment on column eram_handlers.declared is 'What the code declared when it was last registered.';
comment on column eram_handlers.overrides is
    'What an administrator has set by eram_set_handler(): it goes before what is declared.';
comment on column eram_handlers.registered_at is
    'When a worker last registered it; null when only an administrator has named it.';

create index eram_handlers_alias_of_idx on eram_handlers (alias_of) where alias_of is not null;
