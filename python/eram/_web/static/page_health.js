// All checks: what was found, what it means, and what to do.

import { get } from "./api.js";
import { copyButton } from "./dialogs.js";
import { h } from "./dom.js";
import { plural } from "./format.js";
import { emptyState, pageHead } from "./parts.js";
import { levelBadge } from "./states.js";

export const healthPage = {
  title: () => "Health",
  load: (_, signal) => get("api/health", {}, signal),
  view: (data) => [
    pageHead("Health", { beside: levelBadge(data.level), below: summary(data.checks) }),
    data.checks.length
      ? h("ul", { class: "checks" }, data.checks.map(check))
      : emptyState("health", "No checks", "Your role may not see any."),
  ],
};

function summary(checks) {
  const good = checks.filter(({ level }) => level === "ok").length;
  return `${good} of ${plural(checks.length, "check")} are well`;
}

function check({ name, level, finding, meaning, action }) {
  return h(
    "li",
    { class: `check check-${level}`, "data-key": name },
    h("div", { class: "check-head" }, h("h2", {}, name.replaceAll("_", " ")), levelBadge(level)),
    h("p", { class: "check-finding" }, finding),
    meaning && h("p", { class: "muted" }, meaning),
    action &&
      h(
        "div",
        { class: "json check-action" },
        h(
          "pre",
          { tabindex: "0", role: "group", "aria-label": `What to do about ${name}` },
          h("code", {}, action),
        ),
        copyButton(action, `Copy what to do about ${name}`),
      ),
  );
}
