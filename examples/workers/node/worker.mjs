// A complete worker of eram for Node 18 or later. Its handlers are in handlers.mjs.
//
//     DATABASE_URL=postgresql://... node worker.mjs default=10 mail=2
//
// Each queue has a session of its own, on which it fetches, reports and waits. One more proves
// that the worker lives: it has to stay open. docs/languages/index.md says what the calls are.
import { hostname } from 'node:os';
import { connect, isRefusal, pool, query } from './database.mjs';
import { release, report, run } from './outcomes.mjs';

const KNOWN_VERSIONS = /^0\.1\./; // within major.minor the functions stay as they are
const BEAT_MS = 1000; // how soon a cancelled job learns of it
const POLL_MS = 1000 * (process.env.ERAM_POLL_SECONDS ?? 1); // the backstop of an idle queue
const BRISK_MS = 20; // between fetches until the server says that we will be notified
const LOOK_BACK_MS = 15_000; // by then the server has read all that a lost connection had sent
const GRACE_MS = 1000 * (process.env.ERAM_GRACE_SECONDS ?? 30);

const runs = new Map(); // what is in hand, by id and run
const alarms = [];
let workerId = null; // null while the server knows no living worker of ours
let isStopping = false;
let isLeaving = false;

const log = (...words) => console.error(new Date().toISOString(), ...words);
const key = (id, run) => `${id}:${run}`;

// A sleep that anybody can end, also before it has begun.
function makeAlarm() {
    let hasRung = false;
    let end = () => {};
    const alarm = {
        ring: () => { hasRung = true; end(); },
        async sleep(milliseconds) {
            await new Promise((resolve) => {
                const timer = setTimeout(resolve, hasRung ? 0 : Math.max(0, milliseconds));
                end = () => { clearTimeout(timer); resolve(); };
            });
            hasRung = false;
        },
    };
    alarms.push(alarm);
    return alarm;
}

// Proves that the worker lives, learns of cancelled jobs, and ticks, until the queues have ended.
async function live(queues, alarm) {
    let client = null;
    while (!isLeaving) {
        try {
            client ??= await greet();
            await beat(client, queues);
        } catch (error) {
            log('heartbeat:', error.message);
            client?.end().catch(() => {});
            client = null;
        }
        await alarm.sleep(BEAT_MS);
    }
    if (client && workerId !== null) await query(client, 'select eram_stop_worker($1)', workerId);
}

async function greet() {
    const client = await connect();
    const [{ version }] = await query(client, 'select eram_version() as version');
    if (!KNOWN_VERSIONS.test(version)) {
        log(`the database has eram ${version}, which this worker does not know`);
        process.exit(2);
    }
    return client;
}

async function beat(client, queues) {
    if (workerId !== null) {
        // After a lost connection this takes the worker's lock on the new session.
        const [life] = await query(client, 'select * from eram_heartbeat($1)', workerId);
        life.cancelled_ids.forEach((id, i) => {
            runs.get(key(id, life.cancelled_runs[i]))?.abort(new Error('the job was cancelled'));
        });
        if (!life.is_alive) workerId = null;
    }
    if (workerId === null) {
        const started = 'select eram_start_worker($1, $2, $3) as id';
        const name = `${hostname()}:${process.pid}`;
        [{ id: workerId }] = await query(client, started, name, queues, client.processID);
        log(`registered as worker ${workerId}`);
        alarms.forEach((each) => each.ring());
    }
    try {
        // 0: commands of schedules are left to a client that can run them, see eram_tick().
        await query(client, 'select from eram_tick(0)');
    } catch (error) {
        if (!isRefusal(error)) throw error;
        log('tick:', error.message);
    }
}

async function serve(queue, limit) {
    const alarm = makeAlarm();
    const inHand = new Set();
    const ended = []; // outcomes to report; they outlive a lost connection
    const isOver = () => isStopping && inHand.size === 0 && ended.length === 0;
    while (!isOver()) {
        let client = null;
        try {
            client = await connect();
            client.on('notification', alarm.ring);
            client.on('end', alarm.ring);
            await work(client);
        } catch (error) {
            log(`queue ${queue}:`, error.message);
            await alarm.sleep(BEAT_MS);
        } finally {
            client?.end().catch(() => {});
        }
    }

    async function work(client) {
        const lookBacks = [Date.now(), Date.now() + LOOK_BACK_MS];
        let mark = null; // since when this session is declared waiting
        let isIdle = true;
        while (!isOver()) {
            if (ended.length > 0) await report(client, ended, log);
            if (workerId !== null && Date.now() >= lookBacks[0]) {
                // A claim whose answer was lost with its connection is nobody's: give it back.
                const ours = [...inHand, ...ended.map((outcome) => outcome.job)];
                await query(client, 'select eram_release_other_jobs($1, $2, $3, $4)',
                    workerId, queue, ours.map((job) => job.id), ours.map((job) => job.run));
                lookBacks.shift();
            }
            const demand = limit - inHand.size;
            let pause = POLL_MS;
            if (demand > 0 && workerId !== null && !isStopping) {
                if (isIdle && client.isDirect) {
                    // First ask and then fetch: what this fetch does not see is enqueued by
                    // somebody who sees us waiting, once the server says that we have settled.
                    const [waiting] = await query(client, `
                        select mark::text, is_settled,
                            extract(epoch from next_due_at - clock_timestamp())::float8 as due_in
                        from eram_start_waiting($1, $2::text::xid8)`, queue, mark);
                    mark = waiting.mark;
                    if (mark !== null && !waiting.is_settled) pause = BRISK_MS;
                    if (waiting.due_in !== null) pause = Math.min(pause, 1000 * waiting.due_in);
                }
                const jobs = await fetch(client, demand);
                isIdle = jobs.length < demand;
                if (!isIdle && mark !== null) {
                    // A busy worker need not be notified, and its producers need not notify.
                    await query(client, 'select eram_stop_waiting($1)', queue);
                    mark = null;
                }
                if (jobs.length > 0) pause = isIdle ? 0 : pause;
                if (isStopping) await release(client, jobs); // the signal came meanwhile
                else jobs.forEach(start);
            }
            await alarm.sleep(isOver() ? 0 : pause);
        }
    }

    async function fetch(client, demand) {
        try {
            return await query(client, `
                select *, extract(epoch from timeout)::float8 as timeout
                from eram_fetch($1, $2, $3)`, queue, demand, workerId);
        } catch (error) {
            if (!['42704', '55000'].includes(error.code)) throw error;
            workerId = null; // taken for dead: the next beat registers anew
            return [];
        }
    }

    function start(job) {
        const abort = new AbortController();
        const late = new Error(`timed out after ${job.timeout} s`);
        const timer = job.timeout && setTimeout(() => abort.abort(late), 1000 * job.timeout);
        runs.set(key(job.id, job.run), abort);
        inHand.add(job);
        run(job, abort.signal).then((outcome) => {
            clearTimeout(timer);
            runs.delete(key(job.id, job.run));
            inHand.delete(job);
            if (!job.isReported) ended.push(outcome);
            alarm.ring();
        });
    }
}

process.on('unhandledRejection', (error) => {
    // A handler let something run on; its own job is not touched by that.
    log('a handler left this behind:', error);
});

const queues = process.argv.slice(2).map((argument) => argument.split('='));
if (queues.length === 0) queues.push(['default', '10']);
for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
        if (isStopping) process.exit(1);
        isStopping = true;
        log(`${signal}: no more jobs; those that run have ${GRACE_MS / 1000} s to end`);
        alarms.forEach((each) => each.ring());
        // Without a goodbye: the lock goes with the process, and the jobs are rescued.
        setTimeout(() => process.exit(1), GRACE_MS).unref();
    });
}
const alarm = makeAlarm();
const life = live(queues.map(([name]) => name), alarm);
await Promise.all(queues.map(([name, limit]) => serve(name, Number(limit ?? 10))));
isLeaving = true;
alarm.ring();
await life;
await pool.end();
process.exit(0);
