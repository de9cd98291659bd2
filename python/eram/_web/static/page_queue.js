// One queue: its hour, its settings, its jobs.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, duration, number, plural, time } from "./format.js";
import { hourOf, runCard, throughputCard, waitCard, waitingCard } from "./hour.js";
import { card, facts, json, pageHead } from "./parts.js";
import { limitControl, pauseButton, waiting } from "./queue_parts.js";
import { pathTo, queuePlace } from "./router.js";
import { pausedBadge, STATES, stateBadge } from "./states.js";
import { table } from "./tables.js";

export const queuePage = {
  title: ({ route }) => route.argument,
  load: ({ route }, signal) => {
    const [place, query] = queuePlace(route.argument);
    return get(`api/${place}`, query, signal);
  },
  holds: ({ state }) => Boolean(state.limitOf),
  view: (data, context) => {
    const { queue } = data;
    const hour = hourOf(data.throughput);
    return [
      pageHead(queue.queue, {
        above: h("a", { href: pathTo("queues") }, "Queues"),
        beside: queue.is_paused && pausedBadge(),
        actions: [
          h(
            "a",
            { class: "button", href: pathTo("jobs", { queue: queue.queue }) },
            "Show its jobs",
          ),
          pauseButton(queue, context),
        ],
      }),
      stateLinks(queue),
      h(
        "div",
        { class: "grid" },
        card("Now", now(queue, context), { key: "now" }),
        latencyCard(data.latency),
        throughputCard(hour),
        waitingCard(hour),
        waitCard(hour),
        runCard(hour),
        settingsCard(data.settings),
      ),
    ];
  },
};

function stateLinks(queue) {
  return h(
    "ul",
    { class: "state-links", "aria-label": "Jobs of the queue by state" },
    Object.keys(STATES).map((state) =>
      h(
        "li",
        {},
        h("a", { href: pathTo("jobs", { queue: queue.queue, state }) }, stateBadge(state)),
      ),
    ),
  );
}

function now(queue, context) {
  return facts([
    ["Waiting", waiting(queue)],
    ["Due", count(queue.due_count, queue.is_estimate)],
    ["Oldest due for", duration(queue.oldest_due_age)],
    ["To be retried", count(queue.retryable_count, queue.is_estimate)],
    ["Running", number(queue.running_count)],
    ["Limit", limitControl(queue, context)],
    ["Completed in the last minute", number(queue.completed_per_minute)],
    ["Attempts failed in the last minute", number(queue.failed_per_minute)],
    ["Workers", number(queue.worker_count)],
  ]);
}

function latencyCard(latency) {
  if (!latency?.sample_count) {
    return card(
      "Latency",
      h("p", { class: "muted" }, "No job was completed and kept within the last hour."),
      { key: "latency" },
    );
  }
  const row = (name, from) => ({
    name,
    p50: latency[`${from}_p50`],
    p95: latency[`${from}_p95`],
    p99: latency[`${from}_p99`],
  });
  return card(
    "Latency",
    [
      table({
        label: "Latency of the newest jobs",
        rows: [
          row("Wait, from due to claimed", "wait"),
          row("Run, from claimed to finished", "run"),
        ],
        key: (each) => each.name,
        columns: [
          { head: "Time", isName: true, cell: (each) => each.name },
          ...["p50", "p95", "p99"].map((name) => ({
            head: name,
            numeric: true,
            cell: (each) => duration(each[name]),
          })),
        ],
      }),
      h(
        "p",
        { class: "muted note" },
        `Of the newest ${plural(latency.sample_count, "completed job")}, the last `,
        time(latency.newest_at, { focusable: true }),
      ),
    ],
    { key: "latency" },
  );
}

/* What an administrator has set; what is null has its default. */
function settingsCard(settings) {
  const set = Object.entries(settings ?? {}).filter(
    ([name, value]) => value !== null && name !== "name" && name !== "is_paused",
  );
  const content = set.length
    ? facts(set.map(([name, value]) => [name, settingValue(name, value)]))
    : h("p", { class: "muted" }, "Nothing is set: everything has its default.");
  return card("Settings", content, { key: "settings" });
}

function settingValue(name, value) {
  if (typeof value === "object") return json(JSON.stringify(value, null, 2), name);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return name === "rescue_after" ? duration(value) : String(value);
}
