-- Unique keys of jobs that are retried: one that would still be in force is taken again.

-- Takes the key of a job for what is left of its time. The holder is the job itself, also when it
-- needs no key (any more); or that job which has it.
create or replace function _eram_retake_key(
    job_id     bigint,
    out holder bigint,
    out is_new boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    c_tries constant integer := 1000;
    v_id    bigint           := job_id;
    v_spec  record;
    v_key   record;
begin
    holder := v_id;
    is_new := false;

    select
        specs.unique_key,
        specs.unique_until
    into v_spec
    from eram_job_specs as specs
    where specs.job_id = v_id;

    for i in 1..c_tries loop
        if v_spec.unique_key is null or v_spec.unique_until <= clock_timestamp() then
            return;
        end if;

        insert into eram_unique_keys (key, job_id, expires_at)
        values (v_spec.unique_key, v_id, v_spec.unique_until)
        on conflict do nothing;
        is_new := found;
        if is_new then
            return;
        end if;

        select
            unique_keys.job_id,
            unique_keys.expires_at <= clock_timestamp() as has_expired
        into v_key
        from eram_unique_keys as unique_keys
        where unique_keys.key = v_spec.unique_key;

        -- Given up in the meantime.
        continue when not found;

        if v_key.has_expired then
            update eram_unique_keys as unique_keys
            set
                job_id = v_id,
                expires_at = v_spec.unique_until
            where
                unique_keys.key = v_spec.unique_key
                and unique_keys.expires_at <= clock_timestamp();
            is_new := found;
            -- Another was quicker.
            continue when not is_new;
        else
            holder := v_key.job_id;
        end if;
        return;
    end loop;

    raise exception using
        errcode = 'serialization_failure',
        message = format('the unique key of job %s could not be taken', v_id),
        hint = 'Others take it and give it up all the time. Try again.';
end;
$$;

-- Takes those of all jobs that have ended, in order of the key. Of several that have the same, the
-- first gets it.
create or replace function _eram_retake_keys(
    ids          bigint[],
    places       text[],
    out refused  bigint[],
    out new_ids  bigint[],
    out new_keys bytea[]
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_ids    bigint[] := ids;
    v_places text[]   := places;
    v_job    record;
    v_taken  record;
begin
    refused := '{}';
    new_ids := '{}';
    new_keys := '{}';

    for v_job in
        select
            specs.job_id,
            specs.unique_key
        from unnest(v_ids, v_places) as wanted (job_id, place)
        cross join lateral (
            select *
            from eram_job_specs as specs
            where specs.job_id = wanted.job_id
            limit 1
        ) as specs
        where
            wanted.place = 'finished'
            and specs.unique_key is not null
            and (specs.unique_until is null or specs.unique_until > clock_timestamp())
        order by
            specs.unique_key,
            specs.job_id
    loop
        v_taken := _eram_retake_key(v_job.job_id);
        if v_taken.holder <> v_job.job_id then
            refused := refused || v_job.job_id;
        elsif v_taken.is_new then
            new_ids := new_ids || v_job.job_id;
            new_keys := new_keys || v_job.unique_key;
        end if;
    end loop;
end;
$$;
