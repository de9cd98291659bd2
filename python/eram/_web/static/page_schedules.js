// What recurs: when, what is done, when it is next, and what went wrong the last time.

import { get } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { number, plural, time } from "./format.js";
import { brief, button, emptyState, example, pageHead } from "./parts.js";
import { jobPath, pathTo } from "./router.js";
import { searchField } from "./search.js";
import { pausedBadge } from "./states.js";
import { paging, table } from "./tables.js";

const PAGE = 50;
const ACTIONS = { job: "job", sql: "SQL", top_level: "SQL at top level" };

export const schedulesPage = {
  title: () => "Schedules",
  load: ({ route }, signal) => get("api/schedules", { ...route.query, limit: PAGE }, signal),
  view: (data, context) => {
    const { query } = context.route;
    const isLong = data.count > PAGE || query.search;
    return [
      pageHead("Schedules", { below: plural(data.count, "schedule") }),
      isLong && searchField("schedules", query.search),
      data.rows.length ? scheduleTable(data.rows, context) : nothing(query.search),
      paging({
        label: "Pages of schedules",
        isFirst: !query.after,
        first: pathTo("schedules", { search: query.search }),
        next: data.next && pathTo("schedules", { search: query.search, after: data.next }),
      }),
    ];
  },
};

function nothing(search) {
  return search
    ? emptyState("search", `No schedule's name has “${search}” in it`)
    : emptyState(
        "schedules",
        "No schedules yet",
        "What recurs is an entry of a table:",
        example("select eram_schedule('digest', '0 7 * * *', 'myapp.jobs:email');"),
      );
}

function scheduleTable(rows, context) {
  const acts = ["run_schedule", "pause_schedule", "resume_schedule"].some(context.may);
  return table({
    label: "Schedules",
    rows,
    key: (schedule) => schedule.name,
    columns: [
      {
        head: "Name",
        isName: true,
        cell: (schedule) =>
          h(
            "div",
            { class: "name-line" },
            h("span", {}, schedule.name),
            schedule.is_paused && pausedBadge(),
          ),
      },
      {
        head: "When",
        cell: (schedule) => [
          h("code", {}, schedule.schedule),
          schedule.timezone !== "UTC" && h("div", { class: "muted" }, schedule.timezone),
        ],
      },
      { head: "What", wide: true, className: "args-cell", cell: what },
      { head: "Next runs", cell: nextRuns },
      { head: "Last run", cell: lastRun },
      { head: "Runs", numeric: true, wide: true, cell: (schedule) => number(schedule.run_count) },
      acts && {
        head: "Actions",
        hidesHead: true,
        className: "action-cell",
        cell: (schedule) => actions(schedule, context),
      },
    ],
  });
}

function what(schedule) {
  const kind = ACTIONS[schedule.action];
  if (!kind) return h("span", { class: "muted" }, `maintenance: ${schedule.action}`);
  const text = schedule.job?.handler ?? schedule.command;
  return [
    h("div", { class: "mono clip" }, brief(text, 80)),
    h("div", { class: "muted clip" }, schedule.job ? brief(schedule.job.args ?? {}, 80) : kind),
  ];
}

function nextRuns(schedule) {
  const runs = schedule.next_runs ?? (schedule.next_run_at ? [schedule.next_run_at] : []);
  if (!runs.length)
    return h("span", { class: "muted" }, schedule.is_paused ? "paused" : "never again");
  const [first, ...later] = runs;
  return [
    h("div", {}, time(first)),
    later.length > 0 &&
      h(
        "div",
        { class: "muted small-text" },
        "then ",
        later.map((run, place) => [place > 0 && ", ", time(run)]),
      ),
  ];
}

function lastRun(schedule) {
  return [
    h(
      "div",
      {},
      time(schedule.last_run_at, { empty: "not yet" }),
      schedule.last_job_id && [
        " · ",
        h(
          "a",
          { class: "in-text", href: jobPath(schedule.last_job_id) },
          `job ${schedule.last_job_id}`,
        ),
      ],
    ),
    schedule.last_error &&
      h(
        "details",
        { class: "last-error" },
        h("summary", { class: "error-line" }, brief(schedule.last_error, 60)),
        h("p", { class: "error-text" }, schedule.last_error),
      ),
  ];
}

function actions(schedule, context) {
  const { name } = schedule;
  return h(
    "div",
    { class: "actions" },
    context.may("run_schedule") &&
      button("Run now", {
        icon: "bolt",
        small: true,
        key: "run",
        onclick: async () => {
          const sure = await ask({
            title: `Run ${name} now?`,
            confirm: "Run now",
            cancel: "Leave it",
            body: h(
              "p",
              {},
              "It is carried out once, paused or not; its next time stays as it is.",
            ),
          });
          if (sure) context.act("run_schedule", { name }, `Schedule ${name} is carried out`);
        },
      }),
    schedule.is_paused
      ? context.may("resume_schedule") &&
          button("Resume", {
            icon: "play",
            small: true,
            key: "resume",
            onclick: () => context.act("resume_schedule", { name }, `Schedule ${name} goes on`),
          })
      : context.may("pause_schedule") &&
          button("Pause", {
            icon: "pause",
            small: true,
            key: "pause",
            onclick: () => context.act("pause_schedule", { name }, `Schedule ${name} is paused`),
          }),
  );
}
