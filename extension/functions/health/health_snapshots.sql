-- The check of eram_health() for old snapshots: whatever keeps dead rows from being removed.

-- Whoever keeps rows of this database from being removed, by the oldest transaction that he may
-- still want to see. Sessions of other databases do not, nor does a vacuum.
create or replace function _eram_snapshot_holders()
    returns table (holder text, held_since timestamptz, transactions bigint, cure text)
    language sql
    stable
    set search_path from current
as $$
    select
        case activity.backend_type
            when 'walsender' then format('standby "%s"', activity.application_name)
            else format(
                'session %s%s%s',
                activity.pid,
                case
                    when activity.backend_type = 'client backend'
                    then format(' of role "%s"', activity.usename)
                    else format(' (%s)', activity.backend_type)
                end,
                coalesce(format(' (%s)', activity.state), ''))
        end,
        activity.xact_start,
        greatest(age(activity.backend_xid), age(activity.backend_xmin)),
        case activity.backend_type
            when 'walsender'
            then 'End the oldest query at that standby, or set hot_standby_feedback to off there.'
            else format('select pg_terminate_backend(%s);', activity.pid)
        end
    from pg_catalog.pg_stat_activity as activity
    where
        (activity.backend_xid is not null or activity.backend_xmin is not null)
        and (activity.datname = current_database() or activity.datname is null)
        and not exists (
            select
            from pg_catalog.pg_stat_progress_vacuum as vacuums
            where vacuums.pid = activity.pid
        )
    union all
    select
        format('prepared transaction "%s"', prepared.gid),
        prepared.prepared,
        age(prepared.transaction),
        format('rollback prepared %L;', prepared.gid)
    from pg_catalog.pg_prepared_xacts as prepared
    where prepared.database = current_database()
    union all
    select
        format(
            '%s replication slot "%s"',
            case when slots.active then 'active' else 'abandoned' end,
            slots.slot_name),
        null,
        age(slots.xmin),
        case
            when slots.active
            then 'End the oldest query at its standby, or set hot_standby_feedback to off there.'
            else format('select pg_drop_replication_slot(%L);', slots.slot_name)
        end
    from pg_catalog.pg_replication_slots as slots
    where
        slots.xmin is not null
        and slots.wal_status is distinct from 'lost';
$$;

-- Since when sessions of others have been in their transactions is hidden without this.
create or replace function _eram_sees_all_sessions()
    returns boolean
    language sql
    stable
    set search_path from current
as $$
    select pg_has_role(current_user, 'pg_read_all_stats', 'usage');
$$;

create or replace function _eram_health_snapshot()
    returns table (level text, finding text, action text, value double precision)
    language sql
    stable
    set search_path from current
as $$
    with holders as materialized (
        select
            holders.*,
            ages.seconds,
            case
                when holders.held_since is null
                then _eram_health_level('snapshot_transactions', holders.transactions)
                else _eram_health_level('snapshot_seconds', ages.seconds)
            end as level
        from _eram_snapshot_holders() as holders
        cross join lateral (
            select extract(epoch from clock_timestamp() - holders.held_since)::double precision
        ) as ages (seconds)
    ),
    worst as (
        select holders.*
        from holders
        order by
            _eram_health_rank(holders.level),
            holders.seconds desc nulls last,
            holders.transactions desc
        limit 1
    )
    select
        case
            when coalesce(worst.level, 'ok') <> 'ok' then worst.level
            when seen.is_all then 'ok'
            else 'unknown'
        end,
        case
            when coalesce(worst.level, 'ok') <> 'ok' then concat(
                worst.holder,
                ' pins a snapshot',
                case
                    when worst.seconds is not null
                    then ' of ' || _eram_span(worst.seconds * interval '1 second')
                end,
                format(', %s transactions old', worst.transactions))
            when not seen.is_all then format(
                'role "%s", the owner of eram, cannot see how old the snapshots of others are',
                current_user)
            when worst.seconds is null then 'no snapshot is held'
            else format(
                'the oldest snapshot is %s old', _eram_span(worst.seconds * interval '1 second'))
        end,
        case
            when coalesce(worst.level, 'ok') <> 'ok' then worst.cure
            when not seen.is_all then format('grant pg_read_all_stats to %I;', current_user)
        end,
        case
            when seen.is_all or coalesce(worst.level, 'ok') <> 'ok'
            then coalesce((select max(holders.seconds) from holders), 0)
        end
    from _eram_sees_all_sessions() as seen (is_all)
    left join worst on true;
$$;
