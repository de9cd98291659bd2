// Jobs, newest first: a filter, a selection, and what is done to all that are selected.

import { get } from "./api.js";
import { confirmBulk } from "./bulk.js";
import { h } from "./dom.js";
import { filterForm, filterOf, problemOf, stateTabs } from "./filters.js";
import { number, plural, time } from "./format.js";
import { brief, button, emptyState, example, pageHead, tags } from "./parts.js";
import { jobPath, pathTo, queuePath } from "./router.js";
import { stateBadge } from "./states.js";
import { paging, table } from "./tables.js";

const PAGE = 50;

let queues = null;
let handlers = null;

export const jobsPage = {
  title: () => "Jobs",
  load: async ({ route }, signal) => {
    const filter = filterOf(route.query);
    if (problemOf(filter)) return { rows: [], next: null };
    suggest();
    return get("api/jobs", { ...filter, before: route.query.before, limit: PAGE }, signal);
  },
  // Rows must not move away under a selection, a hand, or a reader who has gone back in time.
  holds: ({ state, route }) =>
    state.selected?.size > 0 ||
    state.all ||
    Boolean(route.query.before) ||
    Boolean(document.activeElement?.closest("tbody, form")),
  frame: ({ route }) => [
    stateTabs(filterOf(route.query)),
    filterForm(filterOf(route.query), { queues: queues ?? [], handlers: handlers ?? [] }),
  ],
  view: (data, context) => {
    const { query } = context.route;
    const filter = filterOf(query);
    const problem = problemOf(filter);
    return [
      pageHead("Jobs"),
      stateTabs(filter),
      filterForm(filter, { queues: queues ?? [], handlers: handlers ?? [], problem }),
      bulkBar(data.rows, filter, context),
      data.rows.length
        ? jobTable(data.rows, context)
        : !problem && !data.next && nothing(filter, query.before),
      data.next && data.rows.length < PAGE && searchOn(data, filter),
      paging({
        label: "Pages of jobs",
        isFirst: !query.before,
        first: pathTo("jobs", filter),
        next:
          data.next && data.rows.length >= PAGE && pathTo("jobs", { ...filter, before: data.next }),
      }),
    ];
  },
};

/* Names to choose from; the page does not wait for them, and does without. */
function suggest() {
  if (queues !== null) return;
  queues = [];
  get("api/queues", { limit: 200 }).then(
    (data) => {
      queues = data.rows.map((row) => row.queue);
    },
    () => (queues = null),
  );
  get("api/handlers").then(
    (data) => {
      handlers = data.rows.map((row) => row.handler);
    },
    () => {},
  );
}

function selectionOf(rows, context) {
  const { state } = context;
  state.selected ??= new Set();
  return {
    isSelected: (job) => state.all || state.selected.has(job.id),
    toggle: (job) => {
      if (state.all) {
        // All but this one cannot be said to the database: what is on show remains selected.
        state.selected = new Set(rows.map((row) => row.id));
        state.all = false;
      }
      if (!state.selected.delete(job.id)) state.selected.add(job.id);
      context.update();
    },
    toggleAll: () => {
      const isFull = rows.every((job) => state.all || state.selected.has(job.id));
      state.all = false;
      state.selected = new Set(isFull ? [] : rows.map((job) => job.id));
      context.update();
    },
  };
}

function bulkBar(rows, filter, context) {
  const { state } = context;
  const selected = state.selected?.size ?? 0;
  if (!state.all && !selected) return null;
  const isWhole = rows.length > 0 && rows.every((job) => state.selected?.has(job.id));
  const kinds = [
    ["retry", "Retry", "retry", ""],
    ["cancel", "Cancel", "cancel", ""],
    ["delete", "Delete", "delete", "danger-quiet"],
  ].filter(([kind]) => context.may(`${kind}_jobs`));
  return h(
    "div",
    { class: "bulk", role: "region", "aria-label": "Selected jobs", "data-key": "bulk" },
    h(
      "p",
      { role: "status" },
      state.all ? "All that match the filter" : `${plural(selected, "job")} selected`,
    ),
    isWhole &&
      !state.all &&
      button("Select all that match the filter", {
        small: true,
        kind: "quiet",
        onclick: () => {
          state.all = true;
          context.update();
        },
      }),
    h(
      "div",
      { class: "bulk-actions" },
      kinds.map(([kind, label, iconName, style]) =>
        button(label, {
          icon: iconName,
          small: true,
          kind: style,
          key: kind,
          onclick: () => confirmBulk(kind, state.all ? null : [...state.selected], filter, context),
        }),
      ),
      button("Clear", {
        small: true,
        kind: "quiet",
        onclick: () => {
          state.all = false;
          state.selected = new Set();
          context.update();
        },
      }),
    ),
  );
}

function jobTable(rows, context) {
  const selects = ["retry_jobs", "cancel_jobs", "delete_jobs"].some(context.may);
  return table({
    label: "Jobs, newest first",
    rows,
    key: (job) => job.id,
    selection: selects ? selectionOf(rows, context) : null,
    columns: [
      {
        head: "Job",
        isName: true,
        cell: (job) =>
          h(
            "a",
            { class: "cell-link mono", href: jobPath(job.id) },
            h("span", { class: "visually-hidden" }, "Job "),
            String(job.id),
          ),
      },
      { head: "State", cell: (job) => stateBadge(job.state) },
      { head: "Handler and args", className: "args-cell", cell: work },
      {
        head: "Queue",
        wide: true,
        cell: (job) => h("a", { href: queuePath(job.queue) }, job.queue),
      },
      {
        head: "Attempt",
        numeric: true,
        wide: true,
        cell: (job) => `${number(job.attempt)} of ${number(job.max_attempts)}`,
      },
      { head: "Since", cell: since },
    ],
  });
}

function work(job) {
  return [
    h("div", { class: "handler" }, job.handler, tags(job.tags)),
    h("div", { class: "mono muted clip" }, brief(job.args_text, 160)),
    job.last_error &&
      job.state !== "completed" &&
      h("div", { class: "error-line clip" }, brief(job.last_error, 160)),
  ];
}

/* Since when it is in its state; for what waits, until when. */
function since(job) {
  const moment =
    job.finalized_at ?? (job.state === "executing" ? job.attempted_at : job.scheduled_at);
  return time(moment ?? job.inserted_at);
}

/* A look ends in time, whatever it has found by then; the reader decides whether to go on. */
function searchOn(data, filter) {
  const path = pathTo("jobs", { ...filter, before: data.next });
  return emptyState(
    "search",
    data.rows.length ? "There may be more" : "Nothing found so far",
    `All from ${number(data.next)} on were looked through. A queue or a state makes it quicker.`,
    h("a", { class: "button", href: path }, "Search on"),
  );
}

function nothing(filter, before) {
  if (before)
    return emptyState(
      "jobs",
      "No older jobs",
      null,
      h("a", { class: "button", href: pathTo("jobs", filter) }, "To the newest"),
    );
  if (Object.keys(filter).length) {
    return emptyState(
      "search",
      "No job matches the filter",
      "Ended jobs are kept for as long as their queue says.",
      h("a", { class: "button", href: pathTo("jobs") }, "Show all jobs"),
    );
  }
  return emptyState(
    "jobs",
    "No jobs yet",
    "A job is enqueued by whoever can run SQL:",
    example("select eram_enqueue_job('myapp.jobs:email', '{\"to\": \"ada@example.com\"}');"),
  );
}
