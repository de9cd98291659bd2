// What pages are made of, apart from tables and charts.

import { copyButton } from "./dialogs.js";
import { h, svg } from "./dom.js";
import { icon } from "./icons.js";

export function pageHead(title, { above = null, beside = null, below = null, actions = [] } = {}) {
  const buttons = actions.filter(Boolean);
  return h(
    "div",
    { class: "page-head", "data-key": "head" },
    h(
      "div",
      { class: "page-title" },
      above && h("p", { class: "crumb" }, above),
      h(
        "div",
        { class: "title-line", "data-key": "title" },
        h("h1", { tabindex: "-1" }, title),
        beside,
      ),
      below && h("div", { class: "muted" }, below),
    ),
    buttons.length > 0 && h("div", { class: "actions" }, buttons),
  );
}

export function card(title, content, { actions = null, className = "", key = null } = {}) {
  return h(
    "section",
    { class: `card ${className}`, "data-key": key },
    title && h("div", { class: "card-head" }, h("h2", {}, title), actions),
    content,
  );
}

/* A list of names and values; what has no value is left out. */
export function facts(pairs) {
  const known = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined);
  return h(
    "dl",
    { class: "facts" },
    known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

export function emptyState(iconName, title, text = null, action = null) {
  return h(
    "div",
    { class: "empty" },
    icon(iconName),
    h("p", { class: "empty-title" }, title),
    text && h("p", { class: "muted" }, text),
    action,
  );
}

/* A statement or a command to begin with. */
export function example(text) {
  return h("div", { class: "example" }, h("code", {}, text), copyButton(text, "Copy the example"));
}

export function failure(error, again = null) {
  return h(
    "div",
    { class: "failure tone-bad", role: "alert", "data-key": "failure" },
    icon("warn"),
    h(
      "div",
      {},
      h("p", { class: "failure-title" }, error.message),
      error.hint && h("p", {}, error.hint),
    ),
    again && h("button", { class: "button", type: "button", onclick: again }, "Try again"),
  );
}

export function skeleton() {
  return h(
    "div",
    { class: "skeleton", role: "status" },
    h("span", { class: "visually-hidden" }, "Loading"),
    [90, 60, 75, 40, 80].map((width) => h("div", { class: `skeleton-line skeleton-${width}` })),
  );
}

export function button(
  label,
  { icon: name, onclick, kind = "", small = false, disabled, title, key } = {},
) {
  return h(
    "button",
    {
      class: `button ${kind} ${small ? "small" : ""}`.trim(),
      type: "button",
      disabled,
      title,
      onclick,
      "data-key": key,
    },
    name && icon(name),
    h("span", {}, label),
  );
}

export function tags(names) {
  if (!names?.length) return null;
  return h(
    "span",
    { class: "tags" },
    names.map((name) => h("span", { class: "tag" }, name)),
  );
}

/* JSON with colours, from its text: that is exact, while numbers of JavaScript may not be. */
export function json(text, label) {
  return h(
    "div",
    { class: "json" },
    h("pre", { tabindex: "0", role: "group", "aria-label": label }, h("code", {}, coloured(text))),
    copyButton(text, `Copy ${label.toLowerCase()}`),
  );
}

const PARTS =
  /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const COLOURED_CHARACTERS = 50000; // more than that is not read by colour

function coloured(text) {
  if (text.length > COLOURED_CHARACTERS) return [text];
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(PARTS)) {
    parts.push(text.slice(end, match.index));
    const kind = match[2] ? "key" : match[1] ? "string" : "value";
    parts.push(h("span", { class: `json-${kind}` }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

/* The beginning of a value, for a cell of a table. */
export function brief(value, length = 80) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value.split("\n", 1)[0] : JSON.stringify(value);
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/* A bar for a share between 0 and 1; the number stands beside it. */
export function shareBar(share, tone = "accent") {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return svg(
    "svg",
    { class: `share share-${tone}`, width: "100%", height: 8, "aria-hidden": "true" },
    svg("rect", { class: "share-track", width: "100%", height: 8, rx: 4 }),
    width > 0 &&
      svg("rect", { class: "share-bar", width: `${width.toFixed(1)}%`, height: 8, rx: 4 }),
  );
}

/* The course of a number, small; its axis is left to the large charts. */
export function sparkline(values, tone) {
  // A minute that is not recorded yet is no fall to nothing.
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return null;
  const top = Math.max(...known, 1);
  const points = known.map(
    (value, place) =>
      `${((place / (known.length - 1)) * 100).toFixed(2)},${(23 - (value / top) * 21).toFixed(2)}`,
  );
  return svg(
    "svg",
    {
      class: `spark series-${tone}`,
      viewBox: "0 0 100 24",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    svg("path", { class: "spark-area", d: `M0,24 L${points.join(" L")} L100,24 Z` }),
    svg("path", { class: "spark-line", d: `M${points.join(" L")}` }),
  );
}
