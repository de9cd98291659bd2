// Short words about what was just done, read out by screen readers.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MILLISECONDS = 6000;

export function notice(text, { tone = "good", hint = null } = {}) {
  const close = h(
    "button",
    {
      class: "icon-button small",
      type: "button",
      "aria-label": "Dismiss",
      onclick: (event) => event.currentTarget.closest(".notice").remove(),
    },
    icon("close"),
  );
  const element = h(
    "div",
    { class: `notice tone-${tone}` },
    icon(tone === "good" ? "check" : "warn"),
    h("div", { class: "notice-text" }, h("p", {}, text), hint && h("p", { class: "muted" }, hint)),
    close,
  );
  document.getElementById("notices").append(element);
  // What went wrong stays until it was read.
  if (tone === "good") setTimeout(() => element.remove(), SHOWN_MILLISECONDS);
}

export function complain(error) {
  notice(error.message, { tone: "bad", hint: error.hint });
}
