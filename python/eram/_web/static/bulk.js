// Actions on jobs ask first, and say how many it will be.

import { ApiError, actOnMany, get } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { describe, documentOf } from "./filters.js";
import { plural } from "./format.js";
import { complain, notice } from "./notices.js";
import { go, pathTo } from "./router.js";

const KINDS = {
  retry: {
    verb: "Retry",
    done: "retried",
    meaning:
      "Those that ended, or wait for their next attempt, run again now; others stay as they are.",
  },
  cancel: {
    verb: "Cancel",
    done: "cancelled",
    meaning: "Those that wait never run; the worker of one that runs is told to end it.",
  },
  delete: {
    verb: "Delete",
    done: "deleted",
    meaning:
      "They are removed with their results and errors, for good. What runs is left as it is.",
  },
};

/* ids: the jobs that are meant, or null for all that match the filter. */
export async function confirmBulk(kind, ids, filter, context) {
  const { verb, done, meaning } = KINDS[kind];
  const known = ids ? { count: ids.length, is_exact: true } : await countOf(kind, filter);
  if (known === null) return;
  const many =
    known.count === null
      ? "all matching jobs"
      : `${known.is_exact ? "" : "more than "}${plural(known.count, "job")}`;
  const answer = await ask({
    title: `${verb} ${many}?`,
    danger: kind === "delete",
    confirm: `${verb} ${known.count === null ? "all" : many}`,
    body: [
      !ids && h("p", { class: "filter-words" }, describe(filter)),
      h("p", {}, meaning),
      kind === "cancel" && reasonField(),
    ],
    answer: (form) => ({ reason: form.elements.reason?.value.trim() || null }),
  });
  if (!answer) return;
  const body = ids ? { ids } : { filter: documentOf(filter) };
  if (kind === "cancel") body.reason = answer.reason;
  context.state.selected = new Set();
  context.state.all = false;
  context.update();
  try {
    const { count } = await actOnMany(`${kind}_jobs`, body);
    notice(`${plural(count, "job")} ${done}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const before = `${plural(error.count, "job")} ${done} before that.`;
    complain({ message: error.message, hint: `${before} ${error.hint ?? ""}` });
  }
  await context.reload();
}

async function countOf(kind, filter) {
  try {
    return await get("api/jobs/count", { ...filter, action: kind });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "timeout" || error.code === "busy") return { count: null };
    complain(error);
    return null;
  }
}

function reasonField() {
  return h(
    "div",
    { class: "field" },
    h("label", { for: "reason" }, "Reason, kept with the job"),
    h("input", { class: "input", id: "reason", name: "reason", autocomplete: "off" }),
  );
}

/* One job needs no dialog to be retried: that can be taken back by cancelling it. */
export async function confirmOne(kind, job, context) {
  if (kind === "retry") return context.act("retry_job", { id: job.id }, said(job, "retried"));
  const { verb, done } = KINDS[kind];
  const answer = await ask({
    title: `${verb} job ${job.id}?`,
    danger: kind === "delete",
    confirm: verb,
    body:
      kind === "delete"
        ? h("p", {}, "It is removed with its result and errors, for good.")
        : [
            h(
              "p",
              {},
              job.state === "executing"
                ? "It runs: its worker is told to end it, and what it still reports does not count."
                : "It will not run.",
            ),
            reasonField(),
          ],
    answer: (form) => ({ reason: form.elements.reason?.value.trim() || null }),
  });
  if (!answer) return null;
  return context.act(
    `${kind}_job`,
    { id: job.id, ...(kind === "cancel" ? answer : {}) },
    said(job, done),
    kind === "delete" ? () => go(pathTo("jobs")) : null,
  );
}

/* Another may have been first. */
function said(job, done) {
  return ({ changed }) =>
    changed === false
      ? `Nothing was changed: job ${job.id} is in another state by now`
      : `Job ${job.id} is ${done}`;
}
