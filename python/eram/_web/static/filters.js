// The filter of the jobs: its fields, the address it is kept in, and what bulk actions make of it.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { go, pathTo } from "./router.js";
import { STATES } from "./states.js";

const FIELDS = ["queue", "handler", "tags", "args", "id"];

export function filterOf(query) {
  const filter = {};
  for (const name of ["state", ...FIELDS]) {
    if (query[name]) filter[name] = query[name];
  }
  return filter;
}

/* The args that are wanted, as an object: JSON, or key=value pairs. A value is read as JSON where
   that is possible, so that 7 is a number and "7" a string. */
export function parseArgs(text) {
  const trimmed = text.trim();
  if (trimmed.startsWith("{")) return JSON.parse(trimmed);
  const args = {};
  for (const pair of trimmed.match(/[^\s,=]+=(?:"(?:\\.|[^"\\])*"|[^\s,]*)/g) ?? []) {
    const cut = pair.indexOf("=");
    args[pair.slice(0, cut)] = valueOf(pair.slice(cut + 1));
  }
  if (!Object.keys(args).length) throw new SyntaxError("neither JSON nor key=value");
  return args;
}

function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function splitTags(text) {
  return text
    .split(",")
    .map((tag) => tag.trim())
    .filter(Boolean);
}

/* What eram_retry_jobs() and its like take. */
export function documentOf(filter) {
  const wanted = {};
  if (filter.id) wanted.ids = [Number(filter.id)];
  for (const name of ["state", "queue", "handler"]) {
    if (filter[name]) wanted[name] = filter[name];
  }
  if (filter.tags) wanted.tags = splitTags(filter.tags);
  if (filter.args) wanted.args = parseArgs(filter.args);
  return Object.keys(wanted).length ? wanted : { all: true };
}

/* In words, for a dialog. */
export function describe(filter) {
  const words = Object.entries(filter).map(([name, value]) => `${name} ${value}`);
  return words.length ? words.join(", ") : "no filter: all jobs";
}

export function stateTabs(filter) {
  const tab = (state, name, meaning) =>
    h(
      "li",
      {},
      h(
        "a",
        {
          href: pathTo("jobs", { ...filter, state }),
          title: meaning,
          class: state ? `tone-${STATES[state].tone}` : null,
          "aria-current": (filter.state ?? null) === state ? "true" : null,
        },
        state && icon(STATES[state].icon),
        h("span", {}, name),
      ),
    );
  return h(
    "nav",
    { class: "tabs", "aria-label": "State" },
    h(
      "ul",
      {},
      tab(null, "all"),
      Object.entries(STATES).map(([state, { meaning }]) => tab(state, state, meaning)),
    ),
  );
}

export function filterForm(filter, { queues = [], handlers = [], problem = null } = {}) {
  const set = FIELDS.filter((name) => filter[name]).length;
  const isNarrow = matchMedia("(max-width: 700px)").matches;
  return h(
    "details",
    { class: "filters", open: !isNarrow || set > 0 },
    h(
      "summary",
      {},
      icon("search"),
      "Filter",
      set > 0 && h("span", { class: "filter-count" }, `${set} set`),
    ),
    h(
      "form",
      {
        class: "filter-form",
        role: "search",
        "aria-label": "Filter jobs",
        onsubmit: submit,
        novalidate: true,
      },
      field("args", "Args contain", filter, {
        placeholder: 'user=7 or {"to": "ada"}',
        wide: true,
        search: true,
        problem,
      }),
      field("queue", "Queue", filter, { options: queues }),
      field("handler", "Handler", filter, { options: handlers, wide: true }),
      field("tags", "Tags", filter, { placeholder: "vip, eu" }),
      field("id", "Id", filter, { inputmode: "numeric" }),
      h(
        "div",
        { class: "filter-buttons" },
        h("button", { class: "button primary", type: "submit" }, "Filter"),
        h("a", { class: "button", href: pathTo("jobs", { state: filter.state }) }, "Clear"),
      ),
    ),
  );
}

function field(
  name,
  label,
  filter,
  { options = [], placeholder, inputmode, wide, search, problem } = {},
) {
  const list = options.length ? `${name}-options` : null;
  return h(
    "div",
    { class: `field ${wide ? "field-wide" : ""}` },
    h("label", { for: `filter-${name}` }, label),
    h("input", {
      class: "input",
      id: `filter-${name}`,
      name,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      list,
      placeholder,
      inputmode,
      "data-search": search,
      "aria-invalid": problem ? "true" : null,
      "aria-describedby": problem ? `filter-${name}-problem` : null,
      value: filter[name] ?? "",
    }),
    problem && h("p", { class: "field-problem", id: `filter-${name}-problem` }, problem),
    list &&
      h(
        "datalist",
        { id: list },
        options.map((option) => h("option", { value: option })),
      ),
  );
}

function submit(event) {
  event.preventDefault();
  const { elements } = event.currentTarget;
  const filter = Object.fromEntries(FIELDS.map((name) => [name, elements[name].value.trim()]));
  const { state } = Object.fromEntries(new URLSearchParams(location.search));
  go(pathTo("jobs", { state, ...filter }));
}

/* Why the filter cannot be used, before the server is asked; null when it can. */
export function problemOf(filter) {
  if (!filter.args) return null;
  try {
    parseArgs(filter.args);
    return null;
  } catch {
    return 'Write it as JSON, {"user": 7}, or as pairs: user=7, plan=pro.';
  }
}
