// The handlers of this worker, by the names that jobs are enqueued with. A handler is given the
// job: id, run, args, meta, tags, queue, attempt, max_attempts, and a signal that says when the run
// is over because the job was cancelled or its time is up. What it returns is the job's result.
import { setTimeout as sleep } from 'node:timers/promises';

export const handlers = {
    'demo:echo': async (job) => job.args,

    'demo:fail': async (job) => {
        throw new Error(job.args.message);
    },

    'demo:flaky': async (job) => {
        if (job.attempt < job.args.attempts) throw new Error(`attempt ${job.attempt}`);
        return { attempt: job.attempt };
    },

    'demo:snooze': async (job) => job.snooze(job.args.seconds),

    'demo:discard': async (job) => job.discard(job.args.reason),

    'demo:cancel': async (job) => job.cancel(job.args.reason),

    'demo:sleep': async (job) => {
        await sleep(1000 * job.args.seconds, null, { signal: job.signal });
    },

    // Exactly once: the row and the job's completion are one transaction.
    'demo:record': (job) => job.transaction(async (client) => {
        await client.query(
            'insert into demo_records (job_id, word) values ($1, $2)', [job.id, job.args.word]);
        return { recorded: job.args.word };
    }),

    'demo:unstorable': async () => 'PostgreSQL holds no \0, so this result is refused',
};
