// All queues, by name: what waits, what runs, and what stops them.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, duration, number, plural } from "./format.js";
import { icon } from "./icons.js";
import { emptyState, example, pageHead } from "./parts.js";
import { limitControl, pauseButton, waiting } from "./queue_parts.js";
import { pathTo, queuePath } from "./router.js";
import { searchField } from "./search.js";
import { pausedBadge } from "./states.js";
import { paging, table } from "./tables.js";

const PAGE = 50;
const OLD_SECONDS = 300;

export const queuesPage = {
  title: () => "Queues",
  load: ({ route }, signal) => get("api/queues", { ...route.query, limit: PAGE }, signal),
  holds: ({ state }) => Boolean(state.limitOf),
  view: (data, context) => {
    const { query } = context.route;
    return [
      pageHead("Queues", { below: plural(data.count, "queue") }),
      searchField("queues", query.search),
      data.rows.length ? queueTable(data.rows, context) : nothing(query.search),
      paging({
        label: "Pages of queues",
        isFirst: !query.after,
        first: pathTo("queues", { search: query.search }),
        next: data.next && pathTo("queues", { search: query.search, after: data.next }),
      }),
    ];
  },
};

function nothing(search) {
  if (search) {
    return emptyState(
      "search",
      `No queue's name has “${search}” in it`,
      null,
      h("a", { class: "button", href: pathTo("queues") }, "Show all queues"),
    );
  }
  return emptyState(
    "queues",
    "No queues yet",
    "A queue is there as soon as a job or a worker names it:",
    example("select eram_enqueue_job('myapp.jobs:email', queue => 'mail');"),
  );
}

function queueTable(rows, context) {
  const acts = ["pause_queue", "resume_queue"].some(context.may);
  return table({
    label: "Queues",
    rows,
    key: (queue) => queue.queue,
    columns: [
      {
        head: "Queue",
        isName: true,
        cell: (queue) =>
          h(
            "div",
            { class: "name-line" },
            h("a", { class: "cell-link", href: queuePath(queue.queue) }, queue.queue),
            queue.is_paused && pausedBadge(),
          ),
      },
      { head: "Waiting", numeric: true, cell: waiting },
      { head: "Oldest due", numeric: true, cell: oldest },
      {
        head: "To retry",
        numeric: true,
        wide: true,
        cell: (queue) => count(queue.retryable_count, queue.is_estimate),
      },
      { head: "Running", numeric: true, cell: (queue) => number(queue.running_count) },
      {
        head: "Limit",
        numeric: true,
        className: "limit-cell",
        cell: (queue) => limitControl(queue, context),
      },
      {
        head: "Done / min",
        numeric: true,
        wide: true,
        cell: (queue) => number(queue.completed_per_minute),
      },
      { head: "Failed / min", numeric: true, wide: true, cell: failed },
      { head: "Workers", numeric: true, cell: workers },
      acts && {
        head: "Actions",
        hidesHead: true,
        className: "action-cell",
        cell: (queue) => pauseButton(queue, context, { small: true }),
      },
    ],
  });
}

function oldest(queue) {
  if (queue.oldest_due_age === null) return h("span", { class: "muted" }, "–");
  const isOld = queue.oldest_due_age > OLD_SECONDS;
  return h(
    "span",
    {
      class: isOld ? "marked tone-warn" : null,
      title: isOld ? "due for more than five minutes" : null,
    },
    isOld && icon("warn"),
    duration(queue.oldest_due_age),
  );
}

function failed(queue) {
  return h(
    "span",
    { class: queue.failed_per_minute ? "marked tone-warn" : "muted" },
    number(queue.failed_per_minute),
  );
}

function workers(queue) {
  const isAlone = queue.worker_count === 0 && queue.waiting_count > 0;
  return h(
    "span",
    { class: isAlone ? "marked tone-bad" : null, title: isAlone ? "no worker serves it" : null },
    isAlone && icon("warn"),
    number(queue.worker_count),
  );
}
