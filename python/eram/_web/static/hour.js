// The last hour as charts, of all queues or of one: the same four wherever they are shown.

import { chart } from "./chart.js";
import { duration, number } from "./format.js";
import { card } from "./parts.js";

const MINUTE = 60000;
const LENGTH = 60;

/* One place for each of the last sixty minutes; rows are there only for those with something. */
export function hourOf(rows, now = Date.now()) {
  const newest = rows.reduce((last, row) => Math.max(last, Date.parse(row.minute)), 0);
  // The reader's clock may be wrong; the newest row is right.
  const end = Math.abs(now - newest) < 90 * MINUTE ? Math.max(newest, 0) : floor(now);
  const byMinute = new Map(rows.map((row) => [floor(Date.parse(row.minute)), row]));
  const minutes = Array.from(
    { length: LENGTH },
    (_, place) => new Date(floor(end || now) - (LENGTH - 1 - place) * MINUTE),
  );
  const found = minutes.map((minute) => byMinute.get(minute.getTime()) ?? null);
  return {
    minutes,
    // The minute that goes on is no fall.
    isOpen: minutes.at(-1).getTime() + MINUTE > now,
    counts: (name) => found.map((row) => row?.[name] ?? 0),
    values: (name) => found.map((row) => row?.[name] ?? null),
  };
}

function floor(milliseconds) {
  return Math.floor(milliseconds / MINUTE) * MINUTE;
}

export function throughputCard(hour) {
  return card(
    "Jobs ended per minute",
    chart({
      label: "Jobs ended",
      kind: "stack",
      minutes: hour.minutes,
      isOpen: hour.isOpen,
      say: number,
      empty: "No job has ended in the last hour",
      series: [
        { name: "completed", tone: "completed", values: hour.counts("completed") },
        { name: "attempts failed", tone: "failed", values: hour.counts("failed") },
        { name: "discarded", tone: "discarded", values: hour.counts("discarded") },
        { name: "cancelled", tone: "cancelled", values: hour.counts("cancelled") },
      ],
    }),
    { className: "wide", key: "throughput" },
  );
}

export function waitingCard(hour) {
  return card(
    "Waiting and running",
    chart({
      label: "Jobs waiting and running",
      kind: "lines",
      minutes: hour.minutes,
      isOpen: hour.isOpen,
      say: number,
      empty: "Nothing has waited in the last hour",
      series: [
        { name: "waiting", tone: "waiting", values: hour.values("waiting"), isFilled: true },
        { name: "running", tone: "running", values: hour.values("running"), isDashed: true },
      ],
    }),
    { key: "waiting" },
  );
}

function latencyCard(title, hour, name, empty) {
  return card(
    title,
    chart({
      label: title,
      kind: "lines",
      isTime: true,
      minutes: hour.minutes,
      isOpen: hour.isOpen,
      say: duration,
      empty,
      series: [
        { name: "p95", tone: "high", values: hour.values(`${name}_p95`), isDashed: true },
        { name: "p50", tone: "median", values: hour.values(`${name}_p50`), isFilled: true },
      ],
    }),
    { key: `latency-${name}` },
  );
}

export function waitCard(hour) {
  return latencyCard(
    "Wait, from due to claimed",
    hour,
    "wait",
    "No first run was completed in the last hour",
  );
}

export function runCard(hour) {
  return latencyCard(
    "Run, from claimed to finished",
    hour,
    "run",
    "No job was completed in the last hour",
  );
}
