-- Numbers with a name, for what more than one function needs.

create or replace function _eram_default_queue()
    returns text
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 'default';
$$;

create or replace function _eram_default_max_attempts()
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 20;
$$;

-- Attempts and runs are integers that a claim adds one to; this bound keeps that far from an
-- overflow.
create or replace function _eram_most_attempts()
    returns integer
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select 1000000;
$$;

-- Longer delays are taken for mistakes, and stay clear of the ends of the calendar.
create or replace function _eram_longest_delay()
    returns interval
    language sql
    immutable
    parallel safe
    set search_path from current
as $$
    select interval '100 years';
$$;
