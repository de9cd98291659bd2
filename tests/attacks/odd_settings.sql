-- What the SQL API does, told as statements with the answer that each must give whatever the
-- settings of the session. {schema} is eram's. No literal needs escapes that depend on settings,
-- and no answer is a time or an interval as text. "-->" alone is no row or null, "--> *" is any answer.

select {schema}.eram_version() is not null;
--> t

select {schema}.eram_enqueue_job('a:b');
--> 1

select {schema}.eram_enqueue_job('a:b', '{"n": 1.50}', 'mail', 3, delay => '26:00');
--> 2

select {schema}.eram_enqueue_job('{"handler": "a:b", "delay": "1 mon 2 days"}');
--> 3

select {schema}.eram_enqueue_job('{"handler": "a:b", "delay": 90.5,
    "scheduled_at": null, "tags": ["x", "y z"], "backoff": [1, "1 minute"]}'::pg_catalog.jsonb);
--> 4

select {schema}.eram_enqueue_job(
    '{"handler": "a:b", "scheduled_at": "2099-02-03T04:05:06.789+05:30"}');
--> 5

select pg_catalog.string_agg(id::pg_catalog.text, ' ' order by id)
    from {schema}.eram_enqueue_jobs('[{"handler": "a:b"}, {"handler": "a:b", "queue": "mail"},
    {"handler": "c:d"}, {"handler": "c:d", "delay": "PT1H"}]');
--> 6 7 8 9

select extract(epoch from scheduled_at at time zone 'UTC') from {schema}.eram_jobs
    where id = 5;
--> 4073754906.789000

select round(extract(epoch from scheduled_at - inserted_at)) from {schema}.eram_jobs
    where id = 2;
--> 93600

select round(extract(epoch from scheduled_at - inserted_at), 1) from {schema}.eram_jobs
    where id = 4;
--> 90.5

select args ->> 'n' from {schema}.eram_jobs where id = 2;
--> 1.50

select tags[2] from {schema}.eram_jobs where id = 4;
--> y z

select {schema}.eram_enqueue_job('u:v', '{"b": 1, "a": [2]}', unique_by => 'true');
--> 10

select {schema}.eram_enqueue_job('u:v', '{"a": [2], "b": 1}', unique_by => 'true');
--> 10

select {schema}.eram_enqueue_job('u:w', unique_by => '{"period": "1 hour"}', priority => 9) > 10;
--> t

select {schema}.eram_enqueue_job('{"handler": "u:w", "unique": {"period": 3600}}')
    = (select max(id) from {schema}.eram_jobs);
--> t

select {schema}.eram_enqueue_job('u:v', '{"b": 1, "a": [2]}',
    unique_by => '{"on_conflict": "replace"}', priority => 1);
--> 10

select priority from {schema}.eram_jobs where id = 10;
--> 1

select count(*) from {schema}.eram_jobs where handler in ('u:v', 'u:w');
--> 2

select {schema}.eram_register_handler('h:i', 'mail', 3, 2, '{t}', backoff => '"fixed"',
    timeout => '1 minute 30 seconds', aliases => '{old:i}');
-->

select {schema}.eram_set_handler('h:i', '{"priority": 4, "timeout": "2 minutes"}');
-->

select {schema}.eram_enqueue_job('h:i') > 10;
--> t

select extract(epoch from timeout) from {schema}.eram_job_specs where handler = 'h:i';
--> 120.000000

select queue || priority || max_attempts from {schema}.eram_jobs where handler = 'h:i';
--> mail43

select {schema}.eram_start_worker('w', '{default}', pg_catalog.pg_backend_pid()) > 0;
--> t

select pg_catalog.string_agg(handler || run, ' ' order by id)
    from {schema}.eram_fetch('default', 100, (
        select max(id) from {schema}.eram_workers));
--> a:b1 a:b1 c:d1 u:v1 u:w1

select {schema}.eram_complete_jobs('{1,6}', '{1,1}', array['{"r": 0.10}', '"x"']::jsonb[]);
--> *

select result ->> 'r' from {schema}.eram_jobs where id = 1;
--> 0.10

select {schema}.eram_fail_job(8, 1, 'no luck', '{"type": "T"}');
--> retryable

select extract(epoch from scheduled_at - errored_at) between 16.5 and 19.5
    from {schema}.eram_jobs join {schema}.eram_errors on job_id = id;
--> t

select {schema}.eram_snooze_job(10, 1, '1 day -1 hours');
--> error

select {schema}.eram_snooze_job(10, 1, '23:00');
--> t

select {schema}.eram_discard_job(id, 1, 'enough') from {schema}.eram_jobs where handler = 'u:w';
--> t

select is_alive from {schema}.eram_heartbeat((select max(id) from {schema}.eram_workers));
--> t

select {schema}.eram_retry_job(8);
--> t

select state from {schema}.eram_jobs where id = 8;
--> available

select error || type from {schema}.eram_errors where job_id = 8;
--> no luckT

select state || is_final from {schema}.eram_outcome(1);
--> completedtrue

select {schema}.eram_why(2) is not null and {schema}.eram_why(8) is not null;
--> t

select extract(epoch from {schema}.eram_backoff(3, '[1, "1 day", 7]'));
--> 7.000000

select is_settled is not null from {schema}.eram_start_waiting('default');
--> t

select {schema}.eram_stop_waiting('default');
-->

select {schema}.eram_rescue_jobs('1 hour');
--> 0

select {schema}.eram_pause_queue('mail');
--> t

select is_paused from {schema}.eram_queue_stats where queue = 'mail';
--> t

select {schema}.eram_resume_queue('mail');
--> t

select {schema}.eram_set_queue('mail', max_age => '{"completed": "1 day 12:00"}',
    rescue_after => '90 minutes', backoff => '{"strategy": "fixed", "base": "1.5 hours"}');
-->

select extract(epoch from rescue_after) from {schema}.eram_queues where name = 'mail';
--> 5400.000000

select extract(epoch from max_age::interval) from {schema}.eram_retention('mail')
    where state = 'completed';
--> 129600.000000

select {schema}.eram_update_job(3, scheduled_at => timestamptz '2098-01-01 00:00:00+00',
    timeout => '5 minutes');
--> t

select {schema}.eram_move_jobs('{"ids": [3]}', 'other');
--> 1

select {schema}.eram_cancel_jobs('{"tags": ["y z"]}', 'late');
--> 1

select {schema}.eram_delete_jobs('{"after": "2097-12-31T23:00:00Z",
    "before": "2098-01-01T05:30:01+05:30"}');
--> 1

select extract(epoch from {schema}.eram_next_run('30 7 * * mon-fri', 'Europe/Berlin',
    timestamptz '2030-03-29 12:00:00+00'));
--> 1901251800.000000

select {schema}.eram_schedule('hourly', '1 hour 30 minutes', 'a:b', missed => 'all') > now();
--> t

select {schema}.eram_schedule('hourly', '90 minutes', 'a:b', missed => 'all') > now();
--> t

select {schema}.eram_schedule('nightly', '0 3 * * *', 'a:b', timezone => 'Asia/Tokyo') > now();
--> t

select {schema}.eram_schedule_sql('mark', '1 hour', 'insert into public.marks values (1)') > now();
--> t

select {schema}.eram_schedule_maintenance('prune', options => '{"max_age": "2 days"}') > now();
--> t

select change from {schema}.eram_register_schedules('app',
    '[{"name": "declared", "schedule": "2 hours", "handler": "a:b", "delay": "1 minute"}]');
--> added

select count(*) from {schema}.eram_register_schedules('app',
    '[{"name": "declared", "schedule": "2 hours", "handler": "a:b", "delay": "1 minute"}]');
--> 0

update {schema}.eram_schedules set next_run_at = now() - interval '3 hours 1 minute';
--> *

select next_tick_at is not null from {schema}.eram_tick();
--> t

select count(*) from {schema}.eram_tick();
--> 1

call {schema}.eram_run('0');
--> *

select count(*) > 0 from public.marks;
--> t

select run_count || coalesce(last_error, '') from {schema}.eram_schedules where name = 'mark';
--> 1

select count(*) from {schema}.eram_jobs where meta ->> 'schedule' = 'hourly';
--> 3

select {schema}.eram_pause_schedule('hourly');
--> t

select {schema}.eram_resume_schedule('hourly');
--> t

select {schema}.eram_run_schedule('nightly') > 0;
--> t

select {schema}.eram_unschedule('hourly');
--> t

select count(*) from {schema}.eram_schedules where last_error is not null;
--> 0

select count(*) from {schema}.eram_reindex_plan() where problem is null;
--> 2

select count(*) > 10 from {schema}.eram_health();
--> t

select count(*) > 20 from {schema}.eram_metrics();
--> t

update {schema}.eram_finished_jobs set finalized_at = finalized_at - interval '30 days';
--> *

update {schema}.eram_completions set finalized_at = finalized_at - interval '30 days';
--> *

select {schema}.eram_prune_jobs('1 day 00:00:01') > 2;
--> t

select {schema}.eram_stop_worker((select max(id) from {schema}.eram_workers)) >= 0;
--> t

select count(*) from {schema}.eram_latest_jobs where handler in ('u:v', 'h:i');
--> 2

select count(*) from {schema}.eram_check();
--> 0

select count(*) > 5 from {schema}.eram_health();
--> t

select count(*) > 5 from {schema}.eram_metrics;
--> t

select count(*) from (
    select count(*) from {schema}.eram_queue_stats
    union all select count(*) from {schema}.eram_handler_stats
    union all select count(*) from {schema}.eram_worker_stats
    union all select count(*) from {schema}.eram_throughput
    union all select count(*) from {schema}.eram_latency
) as looks;
--> 5
