-- Changing a job that waits. It gets a new ticket, whatever is changed: a claim whose snapshot is
-- older would take the old one and run what the job was before. Nothing enters a lane in the past,
-- so one that is due is due as of now, and would stand behind all others of its priority. It goes
-- to the lane before them, where those stand that came back.

create or replace function eram_update_job(
    id           bigint,
    priority     integer     default null,
    scheduled_at timestamptz default null,
    delay        interval    default null,
    max_attempts integer     default null,
    backoff      jsonb       default null,
    timeout      interval    default null,
    tags         text[]      default null,
    meta         jsonb       default null,
    args         jsonb       default null
)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
    set plan_cache_mode to force_generic_plan
    set enable_seqscan to off
    set enable_bitmapscan to off
    set jit to off
as $$
#variable_conflict use_column
declare
    v_id           bigint      := id;
    v_priority     integer     := priority;
    v_scheduled_at timestamptz := scheduled_at;
    v_delay        interval    := delay;
    v_max_attempts integer     := max_attempts;
    v_backoff      jsonb       := backoff;
    v_timeout      interval    := timeout;
    v_tags         text[]      := tags;
    v_meta         jsonb       := meta;
    v_args         jsonb       := args;
    v_ticket       eram_queued_jobs;
    v_now          timestamptz;
    v_due_at       timestamptz;
begin
    if v_id is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'id must not be null',
            hint = 'Pass the id of a job; eram_jobs shows them.';
    end if;
    perform _eram_check_priority(v_priority);
    perform _eram_check_max_attempts(v_max_attempts);
    perform _eram_check_scheduled_at(v_scheduled_at);
    perform _eram_check_object('meta', v_meta);
    perform _eram_check_object('args', v_args);
    if v_tags is not null then
        perform _eram_check_tags(v_tags);
    end if;
    if v_backoff is not null then
        perform _eram_check_backoff(v_backoff);
    end if;
    if v_timeout is not null then
        perform _eram_check_timeout(v_timeout);
    end if;
    if v_delay is not null then
        perform _eram_check_delay('delay', v_delay);
        if v_scheduled_at is not null then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = 'delay and scheduled_at exclude each other',
                hint = 'Pass one of the two.';
        end if;
    end if;

    if not exists (select from eram_job_specs as specs where specs.job_id = v_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('job %s does not exist', v_id),
            hint = 'It was pruned, or never was.';
    end if;

    perform pg_current_xact_id();

    for i in 1.._eram_most_looks() loop
        delete from eram_queued_jobs as queued
        where queued.job_id = v_id
        returning queued.* into v_ticket;
        exit when v_ticket.job_id is not null;

        if exists (select from eram_running_jobs as running where running.job_id = v_id)
            or exists (select from eram_finished_jobs as finished where finished.job_id = v_id)
        then
            return false;
        elsif not exists (select from eram_job_specs as specs where specs.job_id = v_id) then
            return false;
        end if;
    end loop;

    if v_ticket.job_id is null then
        raise exception using
            errcode = 'data_corrupted',
            message = format('job %s is in no place', v_id),
            hint = 'See what eram_check() returns.';
    elsif v_max_attempts <= v_ticket.attempt then
        raise exception using
            errcode = 'numeric_value_out_of_range',
            message = format(
                'max_attempts must be greater than the %s attempts that job %s has used, got %s',
                v_ticket.attempt, v_id, v_max_attempts),
            hint = 'Cancel the job if it is not to be tried again.';
    end if;

    perform _eram_wake(v_ticket.queue);

    v_now := clock_timestamp();
    if v_delay is not null then
        v_scheduled_at := v_now + v_delay;
    elsif v_scheduled_at is not null then
        v_scheduled_at := greatest(v_scheduled_at, v_now);
    end if;

    v_due_at := greatest(coalesce(v_scheduled_at, v_ticket.scheduled_at), v_now);

    if v_priority is not null then
        v_ticket.lane := 2 * v_priority;
    end if;
    v_ticket.lane := case
        when v_due_at = v_now then _eram_return_lane(v_ticket.lane)
        else _eram_normal_lane(v_ticket.lane)
    end;

    update eram_job_specs as specs
    set
        priority = coalesce(v_priority, specs.priority),
        scheduled_at = case
            when v_ticket.attempt = 0 then coalesce(v_scheduled_at, specs.scheduled_at)
            else specs.scheduled_at
        end,
        max_attempts = coalesce(v_max_attempts, specs.max_attempts),
        backoff = coalesce(v_backoff, specs.backoff),
        timeout = coalesce(v_timeout, specs.timeout),
        tags = coalesce(v_tags[:], specs.tags),
        meta = nullif(coalesce(v_meta, specs.meta), '{}'),
        args = coalesce(v_args, specs.args)
    where specs.job_id = v_id;

    insert into eram_queued_jobs (job_id, scheduled_at, run, attempt, lane, queue, unique_key)
    values (
        v_id, v_due_at, v_ticket.run, v_ticket.attempt, v_ticket.lane, v_ticket.queue,
        v_ticket.unique_key);
    return true;
end;
$$;

comment on function eram_update_job is
    'Change a job that waits; null leaves a value as it is. delay is from now on, and excludes '
    'scheduled_at; max_attempts must be greater than the attempts used. A unique key stays what it '
    'was. Whatever is changed, a job that is due then goes before the others of its priority, so '
    'that priority 0 puts it before all others of its queue. Returns false, and changes nothing, '
    'when the job runs or has ended.';
