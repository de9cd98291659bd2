// The overview: is all well, how fast is it going, and where does it wait.

import { get } from "./api.js";
import { h } from "./dom.js";
import { count, duration, number, plural } from "./format.js";
import { hourOf, runCard, throughputCard, waitCard, waitingCard } from "./hour.js";
import { icon } from "./icons.js";
import { card, emptyState, pageHead, shareBar, sparkline } from "./parts.js";
import { pathTo, queuePath } from "./router.js";
import { levelBadge } from "./states.js";

const TOP_QUEUES = 8;

export const overviewPage = {
  title: () => "Overview",
  load: (_, signal) => get("api/overview", {}, signal),
  takes: (overview) => overview,
  view: (data) => {
    const hour = hourOf(data.throughput);
    return [
      pageHead("Overview"),
      healthStrip(data.health),
      figures(data, hour),
      h(
        "div",
        { class: "grid" },
        throughputCard(hour),
        waitingCard(hour),
        topQueues(data),
        waitCard(hour),
        runCard(hour),
      ),
    ];
  },
};

/* One line when all is well; otherwise what is not, the worst first. */
function healthStrip({ level, checks }) {
  if (level === "ok" || !checks.length) {
    return h(
      "a",
      { class: "strip tone-good", href: pathTo("health"), "data-key": "health" },
      icon("check"),
      h("span", {}, "All checks are well"),
    );
  }
  const tone = level === "critical" ? "bad" : level === "warn" ? "warn" : "calm";
  return h(
    "a",
    { class: `strip tone-${tone}`, href: pathTo("health"), "data-key": "health" },
    icon(level === "critical" ? "critical" : level === "warn" ? "warn" : "unknown"),
    h(
      "ul",
      {},
      checks
        .slice(0, 3)
        .map((check) => h("li", {}, h("strong", {}, check.name), " ", check.finding)),
      checks.length > 3 &&
        h("li", { class: "muted" }, `and ${plural(checks.length - 3, "more check")}`),
    ),
  );
}

function figures({ totals, queue_count: queueCount, health }, hour) {
  const estimate = totals.is_estimate;
  return h(
    "ul",
    { class: "figures" },
    figure("Waiting", count(totals.waiting, estimate), "queues", {
      below: [count(totals.due, estimate), " due"],
      line: spark(hour, hour.values("waiting"), "waiting"),
    }),
    figure("Running", number(totals.running), jobsIn("executing"), {
      below: `in ${plural(queueCount, "queue")}`,
      line: spark(hour, hour.values("running"), "running"),
    }),
    figure("Completed", number(totals.completed_per_minute), jobsIn("completed"), {
      unit: "/ min",
      below: "in the last minute",
      line: spark(hour, hour.counts("completed"), "completed"),
    }),
    figure("Attempts failed", number(totals.failed_per_minute), jobsIn("retryable"), {
      unit: "/ min",
      below: [failedShare(totals), " · ", count(totals.retryable, estimate), " to retry"],
      tone: totals.failed_per_minute > 0 ? "warn" : null,
      line: spark(hour, hour.counts("failed"), "failed"),
    }),
    figure("Workers", number(totals.workers), "workers", {
      below: totals.workers ? "alive" : "nobody runs jobs",
      tone: totals.workers ? null : "bad",
    }),
    figure("Health", levelBadge(health.level), "health", {
      below: health.checks.length ? plural(health.checks.length, "finding") : "no findings",
    }),
  );
}

function spark(hour, values, tone) {
  return sparkline(hour.isOpen ? values.slice(0, -1) : values, tone);
}

function jobsIn(state) {
  return `jobs?state=${state}`;
}

function failedShare({ completed_per_minute: completed, failed_per_minute: failed }) {
  const all = completed + failed;
  if (!all) return "no attempts";
  const share = (failed / all) * 100;
  return `${share > 0 && share < 0.1 ? "<0.1" : Number(share.toFixed(1))} %`;
}

function figure(name, value, path, { unit, below, line, tone } = {}) {
  const [place, query] = path.split("?");
  return h(
    "li",
    { "data-key": name },
    h(
      "a",
      {
        class: `figure ${tone ? `figure-${tone}` : ""}`,
        href: pathTo(place, Object.fromEntries(new URLSearchParams(query))),
      },
      h("span", { class: "figure-name" }, name),
      h(
        "span",
        { class: "figure-value" },
        value,
        unit && h("span", { class: "figure-unit" }, ` ${unit}`),
      ),
      h("span", { class: "figure-below" }, below),
      line,
    ),
  );
}

function topQueues({ queues, queue_count: queueCount }) {
  const most = Math.max(1, ...queues.map(load));
  const top = [...queues].sort((one, other) => load(other) - load(one)).slice(0, TOP_QUEUES);
  const content = top.length
    ? h(
        "ol",
        { class: "bars" },
        top.map((queue) =>
          h(
            "li",
            { "data-key": queue.queue },
            h("a", { href: queuePath(queue.queue) }, queue.queue),
            queue.is_paused &&
              h(
                "span",
                { class: "tone-warn paused-mark", title: "paused" },
                icon("pause"),
                h("span", { class: "visually-hidden" }, "paused"),
              ),
            h(
              "span",
              { class: "bar-value" },
              count(queue.waiting_count, queue.is_estimate),
              h("span", { class: "muted" }, " waiting · "),
              number(queue.running_count),
              h("span", { class: "muted" }, " running"),
            ),
            shareBar(load(queue) / most, queue.is_paused ? "warn" : "waiting"),
            queue.oldest_due_age > 60 &&
              h(
                "span",
                { class: "bar-note" },
                `the oldest is due for ${duration(queue.oldest_due_age)}`,
              ),
          ),
        ),
      )
    : emptyState(
        "queues",
        "No queues yet",
        "A queue is there as soon as a job or a worker names it.",
      );
  const all =
    queueCount > top.length &&
    h("a", { class: "more", href: pathTo("queues") }, `All ${number(queueCount)} queues`);
  return card("Busiest queues", [content, all], { key: "queues" });
}

function load(queue) {
  return queue.waiting_count + queue.running_count;
}
