-- What has been counted. The recorder writes it, a minute at a time, so that nobody who looks has
-- to read history. All of it may be emptied at any time; then counting begins anew.

create table eram_minutes (
    queue             text        not null,
    minute            timestamptz not null,

    completed_count   bigint      not null,
    failed_count      bigint      not null,
    discarded_count   bigint      not null,
    cancelled_count   bigint      not null,

    waiting_count     bigint,
    running_count     bigint,

    wait_sample_count bigint      not null default 0,
    run_sample_count  bigint      not null default 0,
    wait_times        interval[],
    run_times         interval[],

    constraint eram_minutes_pkey primary key (queue, minute),
    constraint eram_minutes_counts_check check (
        least(completed_count, failed_count, discarded_count, cancelled_count) >= 0)
);

comment on table eram_minutes is
    'What happened in each queue in each of the last 120 minutes, as far as it is recorded.';
comment on column eram_minutes.minute is 'Its beginning.';
comment on column eram_minutes.completed_count is 'Jobs that were completed.';
comment on column eram_minutes.failed_count is 'Attempts that failed.';
comment on column eram_minutes.discarded_count is 'Jobs that were discarded.';
comment on column eram_minutes.cancelled_count is 'Jobs that were cancelled.';
comment on column eram_minutes.waiting_count is
    'How many jobs waited at the last recording in it; null when there was none.';
comment on column eram_minutes.running_count is 'How many ran then.';
comment on column eram_minutes.wait_sample_count is 'Of how many jobs wait_times is.';
comment on column eram_minutes.run_sample_count is 'Of how many jobs run_times is.';
comment on column eram_minutes.wait_times is
    'What half of the jobs, 95 % and 99 % of them waited at most, from due to claimed.';
comment on column eram_minutes.run_times is
    'What half of the jobs, 95 % and 99 % of them took at most, from claimed to completed.';

create index eram_minutes_minute_idx on eram_minutes (minute);

create table eram_totals (
    queue           text        not null,
    completed_count bigint      not null,
    failed_count    bigint      not null,
    discarded_count bigint      not null,
    cancelled_count bigint      not null,
    since           timestamptz not null,

    constraint eram_totals_pkey primary key (queue),
    constraint eram_totals_counts_check check (
        least(completed_count, failed_count, discarded_count, cancelled_count) >= 0)
);

comment on table eram_totals is
    'What has happened in each queue since it is counted. The counts only grow, once a minute or '
    'more often.';
comment on column eram_totals.completed_count is 'Jobs that were completed.';
comment on column eram_totals.failed_count is 'Attempts that failed.';
comment on column eram_totals.discarded_count is 'Jobs that were discarded.';
comment on column eram_totals.cancelled_count is 'Jobs that were cancelled.';
comment on column eram_totals.since is 'The first minute that is in the counts.';

-- What is removed on completion leaves no trace but this, until the recorder has counted it.
create table eram_removal_counts (
    queue        text        not null,
    finalized_at timestamptz not null,
    job_count    integer     not null,
    failed_count integer     not null,
    failed_by    xid8
);

comment on table eram_removal_counts is
    'How many jobs were removed on completion, a row for each call and queue; the recorder takes '
    'the rows away.';
comment on column eram_removal_counts.finalized_at is
    'When they were completed, or when the attempts failed.';
comment on column eram_removal_counts.job_count is 'How many jobs were completed.';
comment on column eram_removal_counts.failed_count is
    'How many attempts of them had failed that were not recorded yet.';
comment on column eram_removal_counts.failed_by is
    'The transaction that reported the failure. A recording that saw that, and not yet the '
    'removal, has counted it.';

alter table eram_removal_counts replica identity full;

-- A transaction may commit long after the times that it has written. So what a recording has
-- counted is what its snapshot saw, and not what was before some time.
create table eram_recordings (
    completions_oid oid         not null,
    recorded_at     timestamptz not null,
    snapshot        pg_snapshot not null,

    constraint eram_recordings_pkey primary key (completions_oid)
);

comment on table eram_recordings is 'Up to where the recorder has counted.';
comment on column eram_recordings.completions_oid is
    'The OID of eram_completions then: in a restored database a snapshot means nothing.';
comment on column eram_recordings.recorded_at is 'When it counted last.';
comment on column eram_recordings.snapshot is 'What it saw: that is counted, and nothing else.';
