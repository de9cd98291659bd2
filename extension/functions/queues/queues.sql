-- What administrators do to queues.

create or replace function eram_set_queue(
    queue         text,
    is_notifying  boolean  default null,
    priority      integer  default null,
    max_attempts  integer  default null,
    backoff       jsonb    default null,
    max_age       jsonb    default null,
    rescue_after  interval default null,
    global_limit  integer  default null,
    is_announcing boolean  default null
)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
#variable_conflict use_variable
declare
    v_max_age jsonb;
begin
    perform _eram_check_queue(queue);
    if priority is not null then
        perform _eram_check_priority(priority);
    end if;
    if max_attempts is not null then
        perform _eram_check_max_attempts(max_attempts);
    end if;
    if backoff is not null then
        perform _eram_check_backoff(backoff);
    end if;
    if max_age is not null then
        perform _eram_check_max_age(max_age);
        v_max_age := _eram_max_age_by_state(max_age);
    end if;
    if rescue_after is not null then
        perform _eram_check_delay('rescue_after', rescue_after);
    end if;
    perform _eram_check_global_limit(global_limit);

    insert into eram_queues as queues
        (name, is_notifying, priority, max_attempts, backoff, max_age, rescue_after, global_limit,
        is_announcing)
    values (
        queue, coalesce(is_notifying, true), priority, max_attempts, backoff,
        nullif(v_max_age, '{}'), nullif(rescue_after, interval '0'), nullif(global_limit, 0),
        coalesce(is_announcing, false))
    on conflict (name) do update
    set
        is_notifying = coalesce(eram_set_queue.is_notifying, queues.is_notifying),
        priority = coalesce(eram_set_queue.priority, queues.priority),
        max_attempts = coalesce(eram_set_queue.max_attempts, queues.max_attempts),
        backoff = coalesce(eram_set_queue.backoff, queues.backoff),
        max_age = nullif(coalesce(v_max_age, queues.max_age), '{}'),
        rescue_after = nullif(
            coalesce(eram_set_queue.rescue_after, queues.rescue_after),
            interval '0'),
        global_limit = nullif(coalesce(eram_set_queue.global_limit, queues.global_limit), 0),
        is_announcing = coalesce(eram_set_queue.is_announcing, queues.is_announcing);

    if max_age is not null then
        perform _eram_note_removals(may_wait => true);
    end if;
    if global_limit is not null then
        perform _eram_wake(queue);
    end if;
end;
$$;

comment on function eram_set_queue is
    'Change settings of a queue; null leaves one as it is. is_notifying: whether an enqueue '
    'wakes waiting workers. priority, max_attempts, backoff: the defaults of jobs enqueued from '
    'now on. max_age: how long jobs are kept after they ended, in seconds, as an interval or '
    '"infinity", or an object of these by state (completed, cancelled, discarded); completed jobs '
    'with 0 are removed at once. It replaces what the queue had; {} takes it back to the general '
    'setting. rescue_after: after what time a job is rescued whose worker cannot be judged; zero '
    'takes it back to the general setting. global_limit: how many jobs of the queue may run at a '
    'time, over all workers; 0 takes it back to any number. What runs already goes on, and claims '
    'that are open when a limit is first set count from their commit. is_announcing: whether '
    'whoever waits for the end of a job is notified of it, see eram_outcome.';

create or replace function eram_pause_queue(queue text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
begin
    perform _eram_check_queue(queue);

    insert into eram_queues as queues (name, is_paused)
    values (queue, true)
    on conflict (name) do update
    set is_paused = true
    where not queues.is_paused;

    return found;
end;
$$;

comment on function eram_pause_queue is
    'Suspend claiming from a queue; what runs goes on, and enqueueing too. Returns false when '
    'it was paused already.';

create or replace function eram_resume_queue(queue text)
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path from current
as $$
begin
    perform _eram_check_queue(queue);

    update eram_queues as queues
    set is_paused = false
    where
        queues.name = queue
        and queues.is_paused;

    if not found then
        return false;
    end if;
    -- Nobody is declared waiting for a paused queue.
    perform _eram_notify(queue);
    return true;
end;
$$;

comment on function eram_resume_queue is
    'Let workers claim from a paused queue again, and wake them. Returns false when it was not '
    'paused.';
