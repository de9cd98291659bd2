// By handler: what it did in the last hour, how long it took, and what went wrong last.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, duration, number, time } from "./format.js";
import { brief, emptyState, pageHead } from "./parts.js";
import { pathTo } from "./router.js";
import { table } from "./tables.js";

export const handlersPage = {
  title: () => "Handlers",
  load: (_, signal) => get("api/handlers", {}, signal),
  view: (data) => [
    pageHead("Handlers", { below: "of the jobs that ended in the last hour" }),
    data.rows.length
      ? handlerTable(data.rows)
      : emptyState(
          "handlers",
          "Nothing has run in the last hour",
          "A handler is listed when a job of it has run.",
        ),
  ],
};

function handlerTable(rows) {
  return table({
    label: "Handlers",
    rows,
    key: (row) => row.handler,
    columns: [
      {
        head: "Handler",
        isName: true,
        cell: (row) =>
          h(
            "a",
            { class: "cell-link mono", href: pathTo("jobs", { handler: row.handler }) },
            row.handler,
          ),
      },
      { head: "Running", numeric: true, cell: (row) => number(row.running_count) },
      {
        head: "Completed",
        numeric: true,
        cell: (row) => count(row.completed_count, row.is_estimate),
      },
      { head: "Failed", numeric: true, cell: (row) => failed(row.failed_count, row) },
      {
        head: "Discarded",
        numeric: true,
        wide: true,
        cell: (row) => failed(row.discarded_count, row),
      },
      { head: "Wait p50", numeric: true, wide: true, cell: (row) => duration(row.wait_p50) },
      { head: "Wait p95", numeric: true, wide: true, cell: (row) => duration(row.wait_p95) },
      { head: "Run p50", numeric: true, cell: (row) => duration(row.run_p50) },
      { head: "Run p95", numeric: true, cell: (row) => duration(row.run_p95) },
      { head: "Last error", wide: true, className: "args-cell", cell: lastError },
    ],
  });
}

function failed(value, row) {
  return h("span", { class: value ? "marked tone-warn" : "muted" }, count(value, row.is_estimate));
}

function lastError(row) {
  if (!row.last_errored_at) return h("span", { class: "muted" }, "none");
  return [
    h("div", { class: "error-line clip" }, brief(row.last_error, 120)),
    h("div", { class: "muted" }, time(row.last_errored_at)),
  ];
}
