-- From where on what eram_health() measures is worth a note, and from where on somebody's sleep.
-- All of its thresholds, each with its reason.

create or replace function _eram_health_limits()
    returns table (measure text, warn double precision, critical double precision)
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    values
        -- Seconds. Reports and dumps that a queue bears well take minutes; in half an hour a busy
        -- one leaves millions of dead rows, and each sweep walks over them.
        ('snapshot_seconds', 300::double precision, 1800::double precision),
        -- Slots and standbys name no time. Some hundred transactions a second are as many in it.
        ('snapshot_transactions', 100000, 1000000),
        -- Rows of one table, if they are more than a fifth of it. A sweep passes over a hundred
        -- thousand in 50 ms, over a million in half a second.
        ('dead_rows', 100000, 1000000),
        -- Times the dead rows at which autovacuum is to come. It looks once a minute, and so finds
        -- more than its threshold of a table in which much happens.
        ('vacuum_delay', 3, 10),
        -- Times autovacuum_freeze_max_age. By default the server stops writing at ten times.
        ('unfrozen_age', 2, 5),
        -- Seconds that a schedule is overdue: more than a crontab's minute and what a tick takes.
        ('tick_delay', 120, 300),
        -- Seconds without a heartbeat, which is written every 15. Who ticks declares a worker
        -- behind a pooler dead after 60. Only all workers together are critical.
        ('worker_silence', 120, 'infinity'),
        -- Seconds that a due job waits in a queue without a worker: a deployment takes less.
        ('unserved_seconds', 60, 300),
        -- Seconds that a due job waits in a queue with workers. Some queues may: their owners set
        -- limits of their own by eram_queue_oldest_due_seconds.
        ('backlog_seconds', 600, 3600),
        -- The filled part. The queue is empty but for a page or two while all who listen keep up;
        -- when it is full, every transaction that notifies fails.
        ('notification_queue', 0.01, 0.25),
        -- The used part of a sequence. Nobody uses up a quintillion: it was set, or bounded.
        ('used_sequence', 0.5, 0.9),
        -- Bytes of a table of tickets beyond ten times what its rows need.
        ('hollow_bytes', 1e9, 1e10),
        -- The part of a queue's attempts that fail. Single failures are what retries are for.
        ('failed_share', 0.2, 0.5)
$$;

create or replace function _eram_health_level(measure text, value double precision)
    returns text
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select case
        when value >= limits.critical then 'critical'
        when value >= limits.warn then 'warn'
        else 'ok'
    end
    from _eram_health_limits() as limits
    where limits.measure = _eram_health_level.measure;
$$;

create or replace function _eram_health_warns_at(measure text)
    returns double precision
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select limits.warn
    from _eram_health_limits() as limits
    where limits.measure = _eram_health_warns_at.measure;
$$;

-- Worst first; what cannot be seen is worse than what is known to be well.
create or replace function _eram_health_rank(level text)
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select array_position('{critical,warn,unknown,ok}', level);
$$;

-- Fewer failures than these in some minutes say nothing about a queue.
create or replace function _eram_health_least_failures()
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 5;
$$;

-- Below this vacuuming is no matter, whatever the thresholds of the server.
create or replace function _eram_health_least_dead_rows()
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 10000;
$$;

-- A ticket with its entries in the indexes, in bytes and generously.
create or replace function _eram_health_ticket_bytes()
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 250;
$$;
