-- What the census finds. A job writes here in the transaction that completes it, so that each file
-- is counted exactly once, whatever happens to workers meanwhile.

create table census_modules (
    job_id    bigint  not null,
    module    text    not null,
    path      text    not null,
    lines     integer not null,
    functions integer not null,
    classes   integer not null,
    imports   integer not null,

    constraint census_modules_pkey primary key (job_id)
);

comment on table census_modules is 'One row per file that parses.';

create table census_summary (
    job_id    bigint not null,
    modules   bigint not null,
    lines     bigint not null,
    functions bigint not null,
    classes   bigint not null,
    imports   bigint not null,

    constraint census_summary_pkey primary key (job_id)
);

comment on table census_summary is 'The totals: one row, written by the last job.';
