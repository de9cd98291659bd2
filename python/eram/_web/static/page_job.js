// One job: what it is, how it went, and what can be done about it.

import { get } from "./api.js";
import { confirmOne } from "./bulk.js";
import { copyButton } from "./dialogs.js";
import { h } from "./dom.js";
import { number, time } from "./format.js";
import { icon } from "./icons.js";
import { timeline } from "./life.js";
import { button, card, facts, json, pageHead, tags } from "./parts.js";
import { pathTo, queuePath } from "./router.js";
import { ENDED, stateBadge } from "./states.js";

export const jobPage = {
  title: ({ route }) => `Job ${route.argument}`,
  load: ({ route }, signal) => get(`api/jobs/${route.argument}`, {}, signal),
  view: (data, context) => {
    const { job } = data;
    const attempts = [...data.attempts].reverse(); // the oldest first
    return [
      pageHead(`Job ${job.id}`, {
        above: h("a", { href: pathTo("jobs") }, "Jobs"),
        beside: stateBadge(job.state),
        below: h("span", { class: "mono" }, job.handler),
        actions: actions(job, context),
      }),
      job.why && h("div", { class: "why", "data-key": "why" }, icon("help"), h("p", {}, job.why)),
      h(
        "div",
        { class: "grid job-grid" },
        h(
          "div",
          { class: "column-main" },
          card("Args", json(job.args_text, "Args"), { key: "args" }),
          job.result_text && card("Result", json(job.result_text, "Result"), { key: "result" }),
          errorsCard(data),
          job.meta_text && card("Meta", json(job.meta_text, "Meta"), { key: "meta" }),
        ),
        h(
          "div",
          { class: "column-side" },
          card("Facts", factsOf(job), { key: "facts" }),
          card("Its life", timeline(job, attempts, data.attempt_count), { key: "life" }),
        ),
      ),
    ];
  },
};

function actions(job, context) {
  const waits = ["available", "scheduled", "retryable"].includes(job.state);
  const retries = ENDED.has(job.state) || job.state === "retryable";
  const one = (kind, label, style) =>
    button(label, {
      icon: kind,
      kind: style,
      key: kind,
      onclick: () => confirmOne(kind, job, context),
    });
  return [
    retries &&
      context.may("retry_job") &&
      one("retry", job.state === "retryable" ? "Run now" : "Retry", "primary"),
    (waits || job.state === "executing") &&
      context.may("cancel_job") &&
      one("cancel", "Cancel", ""),
    job.state !== "executing" &&
      context.may("delete_job") &&
      one("delete", "Delete", "danger-quiet"),
  ];
}

function factsOf(job) {
  return facts([
    ["Queue", h("a", { href: queuePath(job.queue) }, job.queue)],
    [
      "Handler",
      h("a", { class: "mono", href: pathTo("jobs", { handler: job.handler }) }, job.handler),
    ],
    ["Attempt", `${number(job.attempt)} of ${number(job.max_attempts)}`],
    ["Priority", number(job.priority)],
    ["Tags", tags(job.tags)],
    ["Worker", job.attempted_by],
    ["Enqueued", time(job.inserted_at, { focusable: true })],
    ["Scheduled", time(job.scheduled_at, { focusable: true })],
    ["Attempted", job.attempted_at && time(job.attempted_at, { focusable: true })],
    ["Ended", job.finalized_at && time(job.finalized_at, { focusable: true })],
  ]);
}

/* The newest first: that is what one has come for. Tracebacks are folded. */
function errorsCard({ attempts, attempt_count: count }) {
  if (!attempts.length) return null;
  const older = count - attempts.length;
  const list = h(
    "ol",
    { class: "errors" },
    attempts.map((attempt) =>
      h(
        "li",
        { "data-key": `run-${attempt.run}` },
        h(
          "p",
          { class: "error-head" },
          h("strong", {}, `Attempt ${attempt.attempt}`),
          " ",
          h(
            "span",
            { class: "muted" },
            time(attempt.errored_at, { focusable: true }),
            attempt.attempted_by && ` by ${attempt.attempted_by}`,
          ),
        ),
        h(
          "p",
          { class: "error-text" },
          attempt.type &&
            !attempt.error.startsWith(attempt.type) &&
            h("span", { class: "error-type mono" }, attempt.type, " "),
          h("span", {}, attempt.error),
        ),
        attempt.traceback &&
          h(
            "details",
            { class: "traceback" },
            h("summary", {}, "Traceback"),
            h(
              "div",
              { class: "json" },
              h(
                "pre",
                {
                  tabindex: "0",
                  role: "group",
                  "aria-label": `Traceback of attempt ${attempt.attempt}`,
                },
                h("code", {}, attempt.traceback),
              ),
              copyButton(attempt.traceback, "Copy the traceback"),
            ),
          ),
      ),
    ),
  );
  return card(
    "Attempts that did not end well",
    [list, older > 0 && h("p", { class: "muted note" }, `and ${number(older)} older`)],
    { key: "errors" },
  );
}
