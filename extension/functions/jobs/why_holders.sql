-- Which open transaction has a row in its hands: the part of eram_why() for jobs on their way from
-- one place to another. A row bears the id of who deletes or locks it, in xmax. That may be the id
-- of a transaction, of a savepoint within one, or of a list of those (a multixact), and nothing
-- that SQL shows tells lists from the others. So each reading that is possible is looked at, and
-- what counts is that somebody who has locked something of that table is in progress.

create or replace function _eram_session_words(pid integer, transaction xid)
    returns text
    language sql
    stable
    set search_path from current
as $$
    select case
        when pid is not null then format('the open transaction of session %s', pid)
        else coalesce(
            (
                select format('the prepared transaction "%s"', prepared.gid)
                from pg_catalog.pg_prepared_xacts as prepared
                where prepared.transaction = _eram_session_words.transaction
            ),
            'a prepared transaction')
    end;
$$;

-- With its epoch: of all ids with these 32 bits, the one that is next to the newest.
create or replace function _eram_full_xid(id xid)
    returns bigint
    language sql
    stable
    set search_path from current
as $$
    select newest.full_id
        + ((id::text::bigint - newest.full_id) % 4294967296 + 6442450944) % 4294967296
        - 2147483648
    from (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint) as newest (full_id);
$$;

create or replace function _eram_is_in_progress(id xid)
    returns boolean
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_id bigint := _eram_full_xid(id);
begin
    return v_id > 0 and coalesce(pg_xact_status(v_id::text::xid8) = 'in progress', false);
exception
    -- No transaction has had it yet: it is the id of something else.
    when invalid_parameter_value then
        return false;
end;
$$;

-- The ids that an xmax of this table may stand for.
create or replace function _eram_xmax_ids(xmax xid, place regclass)
    returns setof xid
    language plpgsql
    volatile
    set search_path from current
as $$
begin
    return next xmax;

    -- A list is no older than the oldest that the table may hold; to ask for another is an error.
    if mxid_age(xmax) between 1 and (
        select mxid_age(relations.relminmxid)
        from pg_catalog.pg_class as relations
        where relations.oid = place
    )
    then
        return query
        select members.xid
        from pg_get_multixact_members(xmax) as members;
    end if;
end;
$$;

-- Who deletes or locks a row of this table, by its xmax; null when that is over. The lock on the
-- id of a savepoint is given back when it is released, and what remains is who may have had it.
create or replace function _eram_holder_words(xmax xid, place regclass)
    returns text
    language sql
    volatile
    set search_path from current
as $$
    with ids as materialized (
        select
            ids.id,
            _eram_full_xid(ids.id) as full_id
        from _eram_xmax_ids(xmax, place) as ids (id)
        where
            xmax <> '0'::xid
            and _eram_is_in_progress(ids.id)
    ),
    locks as materialized (
        select *
        from pg_catalog.pg_locks as locks
        where
            locks.granted
            and exists (select from ids)
    ),
    transactions as (
        select
            locks.pid,
            locks.virtualtransaction,
            array_agg(locks.transactionid) as ids,
            (array_agg(locks.transactionid order by _eram_full_xid(locks.transactionid)))[1] as id,
            min(_eram_full_xid(locks.transactionid)) as full_id
        from locks
        where
            locks.locktype = 'transactionid'
            and locks.mode = 'ExclusiveLock'
            and exists (
                select
                from locks as tables
                where
                    tables.locktype = 'relation'
                    and tables.relation = place
                    and tables.database = (
                        select databases.oid
                        from pg_catalog.pg_database as databases
                        where databases.datname = current_database()
                    )
                    and tables.mode in ('RowShareLock', 'RowExclusiveLock')
                    and tables.virtualtransaction = locks.virtualtransaction
                    and tables.pid is not distinct from locks.pid
            )
        group by
            locks.pid,
            locks.virtualtransaction
    ),
    holders as (
        select distinct
            transactions.pid,
            transactions.id
        from ids
        join transactions
            on ids.id = any (transactions.ids)
            or transactions.full_id < ids.full_id
            and ids.id <> all (array(select unnest(others.ids) from transactions as others))
    )
    select string_agg(
        _eram_session_words(holders.pid, holders.id), ' or ' order by holders.pid, holders.id::text)
    from holders;
$$;
