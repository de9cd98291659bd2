-- Unique keys: taken when a job is enqueued, given up when it ends. A key is in force until it is
-- deleted or has expired, so nothing depends on what was pruned. Several are taken in order of the
-- key; on conflict do nothing waits for a rival that is not committed yet, is right whether it
-- commits or rolls back, and locks nothing of a rival that was there before.

-- Of jobs that ended, ids[i] with keys[i]. A window outlives the completion of its job.
create or replace function _eram_release_keys(
    keys         bytea[],
    ids          bigint[],
    with_windows boolean default true
)
    returns void
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_key record;
begin
    for v_key in
        select
            given_up.key,
            given_up.job_id
        from unnest(keys, ids) as given_up (key, job_id)
        where given_up.key is not null
        order by given_up.key
    loop
        delete from eram_unique_keys as unique_keys
        where
            unique_keys.key = v_key.key
            and unique_keys.job_id = v_key.job_id
            and unique_keys.expires_at is null;

        if with_windows and not found then
            -- One that is locked is being taken over, because its window is over.
            delete from eram_unique_keys as unique_keys
            where unique_keys.key = (
                select mine.key
                from eram_unique_keys as mine
                where mine.key = v_key.key and mine.job_id = v_key.job_id
                for update skip locked
            );
        end if;
    end loop;
end;
$$;
