// What becomes of a run: a handler's end is made an outcome, and outcomes are reported.
import { isRefusal, pool, query } from './database.mjs';
import { handlers } from './handlers.mjs';

const MAX_ERROR_CHARACTERS = 2000;
const MOST_AT_ONCE = 100;

// What a handler throws to end otherwise than well.
class Outcome extends Error {
    constructor(kind, value) {
        super(kind);
        Object.assign(this, { kind, value });
    }
}

// undefined is no JSON; a job without a result has none.
const toJson = (value) => JSON.stringify(value) ?? null;

// Text that the database can hold: it has no character of code 0.
const toText = (value) => String(value).replaceAll('\0', '').slice(0, MAX_ERROR_CHARACTERS);

const failure = (error) => ({
    kind: 'fail',
    value: toText(error?.message ?? error),
    detail: JSON.stringify({ type: toText(error?.name ?? 'Error'), stack: toText(error?.stack) }),
});

// Runs a job's handler; whatever comes of it is an outcome.
export async function run(job, signal) {
    Object.assign(job, {
        signal,
        snooze(seconds) { throw new Outcome('snooze', seconds); },
        discard(reason) { throw new Outcome('discard', toText(reason)); },
        cancel(reason) { throw new Outcome('cancel', toText(reason)); },
        transaction: (work) => completeInTransaction(job, work),
    });
    try {
        // hasOwn, because whoever enqueues chooses the name, and "constructor" is one too.
        if (!Object.hasOwn(handlers, job.handler)) {
            throw new Error(`this worker has no handler "${job.handler}"`);
        }
        const value = await handlers[job.handler](job);
        if (!job.isReported) signal.throwIfAborted();
        return { job, kind: 'complete', value: toJson(value) };
    } catch (error) {
        if (error instanceof Outcome) return { job, kind: error.kind, value: error.value };
        // Why it was aborted says more than that it was.
        return { job, ...failure(signal.aborted ? signal.reason : error) };
    }
}

// The handler's work and the completion of its job are one transaction: exactly once.
async function completeInTransaction(job, work) {
    const client = await pool.connect();
    try {
        await client.query('begin');
        const result = await work(client);
        job.signal.throwIfAborted();
        if ((await complete(client, [{ job, value: toJson(result) }])).length === 0) {
            throw new Error('the run was over before it could be completed');
        }
        await client.query('commit');
        job.isReported = true;
        client.release();
    } catch (error) {
        client.release(true); // its connection is closed, and so the transaction rolled back
        throw error;
    }
}

function complete(client, outcomes) {
    return query(client, 'select eram_complete_jobs($1, $2, $3) as id',
        outcomes.map(({ job }) => job.id),
        outcomes.map(({ job }) => job.run),
        outcomes.map(({ value }) => value));
}

// Reports outcomes and takes them off the list. One that was reported on a connection whose answer
// was lost is reported again: the server accepts it once.
export async function report(client, outcomes, log) {
    while (outcomes.length > 0) {
        const kind = outcomes[0].kind;
        const end = outcomes.findIndex((outcome) => outcome.kind !== kind);
        const count = kind === 'complete' ? (end < 0 ? MOST_AT_ONCE : end) : 1;
        const batch = outcomes.slice(0, Math.min(count, MOST_AT_ONCE));
        const accepted = await reportAlike(client, batch);
        outcomes.splice(0, batch.length);
        if (accepted < batch.length) {
            const ids = batch.map(({ job }) => job.id).join(', ');
            log(`${batch.length - accepted} runs were over already, of jobs ${ids}`);
        }
    }
}

async function reportAlike(client, batch) {
    try {
        return await say(client, batch);
    } catch (error) {
        if (!isRefusal(error)) throw error;
        // Something in it cannot be stored, such as a result with \u0000: the job at fault fails.
        if (batch.length === 1) return say(client, [{ job: batch[0].job, ...failure(error) }]);
        let accepted = 0;
        for (const outcome of batch) accepted += await reportAlike(client, [outcome]);
        return accepted;
    }
}

async function say(client, batch) {
    const [{ job, kind, value, detail }] = batch;
    const { id, run } = job;
    const one = async (call, ...values) => {
        const [{ answer }] = await query(client, `select ${call} as answer`, ...values);
        return answer ? 1 : 0; // null and false: the run was no longer ours
    };
    switch (kind) {
        case 'complete': return (await complete(client, batch)).length;
        case 'fail': return one('eram_fail_job($1, $2, $3, $4)', id, run, value, detail);
        case 'snooze':
            return one('eram_snooze_job($1, $2, make_interval(secs => $3))', id, run, value);
        case 'discard': return one('eram_discard_job($1, $2, $3)', id, run, value);
        case 'cancel': return one('eram_cancel_job($1, $3, $2)', id, run, value);
        default: throw new TypeError(`nobody reports ${kind}`);
    }
}

// Gives back what was claimed and not started; the attempt does not count.
export async function release(client, jobs) {
    if (jobs.length === 0) return;
    await query(client, 'select eram_release_jobs($1, $2)',
        jobs.map((job) => job.id), jobs.map((job) => job.run));
}
