// Who runs jobs, whether they live, and what each is doing now.

import { get } from "./api.js";
import { h } from "./dom.js";
import { number, plural, time } from "./format.js";
import { card, emptyState, example, facts, pageHead } from "./parts.js";
import { jobPath, queuePath } from "./router.js";
import { conditionBadge } from "./states.js";

const SHOWN_QUEUES = 12;

export const workersPage = {
  title: () => "Workers",
  load: (_, signal) => get("api/workers", {}, signal),
  view: (data) => [
    pageHead("Workers", {
      below: `${plural(data.count, "worker")}, ${plural(running(data.rows), "job")} running`,
    }),
    data.rows.length
      ? h("ul", { class: "workers" }, data.rows.map(worker))
      : emptyState(
          "workers",
          "No workers",
          "Nobody runs jobs.",
          example("python -m eram.worker --queue default=10 --allow myapp.jobs"),
        ),
  ],
};

function running(rows) {
  return rows.reduce((sum, row) => sum + row.running_count, 0);
}

function worker(row) {
  const jobs = row.running ?? [];
  const more = row.running_count - jobs.length;
  return h(
    "li",
    { "data-key": row.worker },
    card(null, [
      h("div", { class: "card-head" }, h("h2", {}, row.name), conditionBadge(row.condition)),
      facts([
        ["Queues", queues(row.queues)],
        ["Heartbeat", time(row.heartbeat_at, { focusable: true })],
        ["Started", time(row.started_at, { focusable: true })],
        [
          "Its life is proven by",
          row.is_direct ? "the lock of its session" : "its heartbeats, behind a pooler",
        ],
        ["Running", number(row.running_count)],
        [
          "The oldest since",
          row.oldest_attempted_at && time(row.oldest_attempted_at, { focusable: true }),
        ],
      ]),
      jobs.length > 0 &&
        h(
          "ul",
          { class: "running" },
          jobs.map((job) =>
            h(
              "li",
              { "data-key": job.id },
              h(
                "a",
                { class: "mono", href: jobPath(job.id) },
                h("span", { class: "visually-hidden" }, "Job "),
                String(job.id),
              ),
              h("span", { class: "mono clip" }, job.handler),
              h("span", { class: "muted" }, time(job.attempted_at)),
            ),
          ),
        ),
      more > 0 && jobs.length > 0 && h("p", { class: "muted" }, `and ${number(more)} more`),
    ]),
  );
}

function queues(names) {
  const shown = names.slice(0, SHOWN_QUEUES);
  return h(
    "span",
    { class: "tags" },
    shown.map((name) => h("a", { class: "tag", href: queuePath(name) }, name)),
    names.length > shown.length &&
      h("span", { class: "muted" }, `and ${number(names.length - shown.length)} more`),
  );
}
