-- Reading many jobs at once. Those of a batch mostly differ in args and meta alone. So the rest,
-- the envelope, is read once for all jobs that share it, by the rules of specs.sql, and each job is
-- that with its own args and meta. This costs a quarter of reading each job by itself.

create or replace function _eram_read_batch(
    jobs          jsonb,
    out specs     eram_job_specs[],
    out queues    text[],
    out is_unique boolean
)
    language plpgsql
    volatile
    set search_path from current
    set jit to off
as $$
declare
    v_number bigint;
begin
    with given as materialized (
        select
            jobs.job,
            jobs.number,
            -- As text, because jsonb takes 1 and 1.0 for equal.
            (jobs.job - '{args,meta}'::text[])::text as envelope,
            nullif(jobs.job -> 'args', 'null') as args,
            nullif(jobs.job -> 'meta', 'null') as meta
        from jsonb_array_elements(jobs) with ordinality as jobs (job, number)
    ),
    kinds as materialized (
        select
            envelopes.envelope,
            made.*
        from (
            select distinct given.envelope
            from given
        ) as envelopes
        cross join lateral _eram_read_spec(envelopes.envelope::jsonb) as made
    )
    select
        (select array_agg(distinct kinds.queue) from kinds),
        (select bool_or(kinds.unique_by is not null) from kinds),
        array_agg(
            case
                -- Its key is made of its arguments.
                when kinds.unique_by is not null then _eram_read_spec(given.job, kinds.unique_by)
                else row(
                    null,
                    kinds.handler,
                    coalesce(given.args, '{}'),
                    nullif(coalesce(given.meta, kinds.meta), '{}'),
                    kinds.tags,
                    kinds.queue,
                    kinds.priority,
                    kinds.max_attempts,
                    kinds.backoff,
                    kinds.timeout,
                    null,
                    null,
                    null,
                    null,
                    kinds.scheduled_at
                )::eram_job_specs
            end
            order by given.number),
        min(given.number) filter (
            where jsonb_typeof(given.args) <> 'object' or jsonb_typeof(given.meta) <> 'object')
    into queues, is_unique, specs, v_number
    from given
    join kinds on kinds.envelope = given.envelope;

    if v_number is not null then
        perform _eram_read_spec(jobs -> (v_number - 1)::integer);
    end if;
end;
$$;

-- One by one, to say which of them is at fault.
create or replace function _eram_read_one_by_one(
    jobs          jsonb,
    out specs     eram_job_specs[],
    out queues    text[],
    out is_unique boolean
)
    language plpgsql
    volatile
    set search_path from current
as $$
declare
    v_spec    eram_job_specs;
    v_checked jsonb;
    v_job     jsonb;
    v_hint    text;
begin
    specs := '{}';
    queues := '{}';
    is_unique := false;
    for v_job in select elements.value from jsonb_array_elements(jobs) as elements loop
        v_spec := _eram_read_spec(v_job, v_checked);
        v_checked := v_spec.unique_by;
        specs := array_append(specs, v_spec);
        is_unique := is_unique or v_spec.unique_key is not null;
        if v_spec.queue <> all (queues) then
            queues := array_append(queues, v_spec.queue);
        end if;
    end loop;
exception
    when data_exception or feature_not_supported or name_too_long or invalid_name then
        get stacked diagnostics v_hint = pg_exception_hint;
        raise exception using
            errcode = sqlstate,
            message = sqlerrm,
            detail = format(
                'The mistake is in job %s of %s.',
                coalesce(cardinality(specs), 0) + 1, jsonb_array_length(jobs)),
            hint = v_hint;
end;
$$;
