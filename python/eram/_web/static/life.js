// The life of a job, from its enqueue to its end: moments, and the time from one to the next.

import { h } from "./dom.js";
import { duration, time } from "./format.js";
import { icon } from "./icons.js";
import { ENDED, STATES } from "./states.js";

/* The moments that are known. Where an attempt began is kept of the last one only. */
export function momentsOf(job, attempts) {
  const moments = [{ at: job.inserted_at, name: "Enqueued", icon: "inbox", tone: "info" }];
  const first = attempts.length ? null : job.scheduled_at;
  if (first && Date.parse(first) - Date.parse(job.inserted_at) > 1000) {
    moments.push({ at: first, name: "Due", icon: "clock", tone: "plum" });
  }
  for (const attempt of attempts) {
    const isEnd = ENDED.has(job.state) && job.state !== "completed" && attempt === attempts.at(-1);
    if (!isEnd) {
      moments.push({
        at: attempt.errored_at,
        name: `Attempt ${attempt.attempt} failed`,
        icon: "warn",
        tone: "warn",
        by: attempt.attempted_by,
      });
    }
  }
  if (job.attempted_at) {
    moments.push({
      at: job.attempted_at,
      name: `Attempt ${job.attempt} began`,
      icon: "play",
      tone: "accent",
      by: job.attempted_by,
    });
  }
  if (job.finalized_at) {
    const { icon: name, tone } = STATES[job.state];
    moments.push({ at: job.finalized_at, name: capital(job.state), icon: name, tone });
  }
  moments.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  return moments;
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}

export function timeline(job, attempts, count = attempts.length) {
  const moments = momentsOf(job, attempts);
  const next = job.state === "retryable" || job.state === "scheduled" ? job.scheduled_at : null;
  const isOpen = !ENDED.has(job.state);
  return h(
    "ol",
    { class: "life" },
    moments.map((moment, place) => [
      place > 0 && gap(moments[place - 1], moment),
      place === 1 &&
        count > attempts.length &&
        h("li", { class: "gap" }, `${count - attempts.length} earlier attempts are not shown`),
      h(
        "li",
        { class: `moment tone-${moment.tone}` },
        h("span", { class: "moment-mark" }, icon(moment.icon)),
        h(
          "div",
          {},
          h("p", { class: "moment-name" }, moment.name),
          h(
            "p",
            { class: "muted" },
            time(moment.at, { focusable: true }),
            moment.by && ` by ${moment.by}`,
          ),
        ),
      ),
    ]),
    isOpen &&
      h(
        "li",
        { class: `moment is-open tone-${STATES[job.state]?.tone ?? "calm"}` },
        h("span", { class: "moment-mark" }, icon(STATES[job.state]?.icon)),
        h(
          "div",
          {},
          h("p", { class: "moment-name" }, capital(job.state)),
          h(
            "p",
            { class: "muted" },
            next ? ["runs ", time(next, { focusable: true })] : STATES[job.state]?.meaning,
          ),
        ),
      ),
  );
}

function gap(before, after) {
  const seconds = (Date.parse(after.at) - Date.parse(before.at)) / 1000;
  const ran = before.name.endsWith("began");
  return h(
    "li",
    { class: `gap ${ran ? "gap-run" : ""}` },
    `${duration(seconds)} ${ran ? "of work" : "later"}`,
  );
}
