// Drive a Node peer: `node _program.mjs PEER.mjs install|produce|work URL`. It does what
// _program.py does, in the same lines of JSON; PEER.mjs exports a class with the same methods,
// named as JavaScript does: install, open, close, make, enqueueMany, enqueue, enqueueStamped, work.
// Its constructor takes a clock as well.

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const CALL_JOBS = 1000;

const write = process.stdout.write.bind(process.stdout);
const say = (answer) => new Promise((done) => write(JSON.stringify(answer) + "\n", done));
// What a library prints must not get between the answers.
console.log = console.info = console.error;

// The clock that Python calls monotonic, which all processes of a machine share. What is called
// performance.timeOrigin is off by milliseconds, in each process by others.
const now = () => Number(process.hrtime.bigint());

const range = (from, count) => Array.from({ length: count }, (_, index) => from + index);

async function produce(peer, lines) {
  await peer.open(1);
  let connections = 1;
  let number = 0;
  await say({ ready: true });
  for await (const line of lines) {
    const { do: what, jobs, producers = 1, rate } = JSON.parse(line);
    if (producers !== connections) {
      await peer.close();
      await peer.open(producers);
      connections = producers;
    }
    const numbers = range(number, jobs);
    number += jobs;
    if (what === "many") await say({ seconds: await many(peer, numbers) });
    else if (what === "singly") await say({ seconds: await singly(peer, numbers, producers) });
    else await say({ stamps: await steadily(peer, numbers, rate) });
  }
  await peer.close();
}

async function many(peer, numbers) {
  const calls = [];
  for (let at = 0; at < numbers.length; at += CALL_JOBS)
    calls.push(numbers.slice(at, at + CALL_JOBS).map((number) => peer.make(number)));
  const begunAt = performance.now();
  for (const made of calls) await peer.enqueueMany(made);
  return (performance.now() - begunAt) / 1000;
}

async function singly(peer, numbers, producers) {
  const share = async (first) => {
    for (let at = first; at < numbers.length; at += producers) await peer.enqueue(numbers[at]);
  };
  const begunAt = performance.now();
  await Promise.all(range(0, producers).map(share));
  return (performance.now() - begunAt) / 1000;
}

async function steadily(peer, numbers, rate) {
  const stamps = {};
  const begunAt = performance.now();
  for (const [position, number] of numbers.entries()) {
    await sleep(Math.max(0, begunAt + (position * 1000) / rate - performance.now()));
    stamps[number] = await peer.enqueueStamped(number);
  }
  return stamps;
}

async function work(peer, lines) {
  const started = new Map();
  let handled = 0;
  const note = (number) => {
    handled += 1;
    if (!started.has(number)) started.set(number, now());
  };
  const input = lines[Symbol.asyncIterator]();
  await say({ ready: true });
  await input.next();
  await peer.work(note, input.next());
  await say({ handled, started: Object.fromEntries(started) });
}

const [file, what, url] = process.argv.slice(2);
const { Peer } = await import(pathToFileURL(file));
const peer = new Peer(url, now);
if (what === "install") {
  await peer.install();
  await say({ installed: true });
} else {
  const lines = createInterface({ input: process.stdin });
  await { produce, work }[what](peer, lines);
}
process.exit(0);
