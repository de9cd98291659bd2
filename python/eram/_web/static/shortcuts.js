// Keys. They can be switched off, for those whose tools send letters of their own.

import { ask, isDialogOpen } from "./dialogs.js";
import { h } from "./dom.js";
import { toggleExact } from "./format.js";
import { notice } from "./notices.js";
import { currentRoute, go, pathTo } from "./router.js";

const KEY = "eram-shortcuts";
const PAUSE = 1500; // between the two keys of one shortcut

const PLACES = {
  o: ["", "overview"],
  q: ["queues", "queues"],
  j: ["jobs", "jobs"],
  s: ["schedules", "schedules"],
  w: ["workers", "workers"],
  n: ["handlers", "handlers (names)"],
  h: ["health", "health"],
};

let wantsPlace = 0;

function areOn() {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}

function turn(on) {
  try {
    localStorage.setItem(KEY, on ? "on" : "off");
  } catch {
    notice("this browser keeps no settings", { tone: "warn" });
  }
}

function isTyping(target) {
  return target.closest?.("input:not([type=checkbox]), select, textarea, [contenteditable]");
}

export function watchKeys(page) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isDialogOpen()) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (!areOn()) return;
    if (press(event.key, page)) event.preventDefault();
  });
}

function press(key, page) {
  const place = Date.now() - wantsPlace < PAUSE ? PLACES[key] : undefined;
  wantsPlace = 0;
  if (place) {
    go(pathTo(place[0]));
    return true;
  }
  switch (key) {
    case "g":
      wantsPlace = Date.now();
      return true;
    case "/":
      search();
      return true;
    case "?":
      showHelp();
      return true;
    case "t":
      notice(toggleExact() ? "Times are shown exactly" : "Times are shown relative to now");
      return true;
    case "r":
      page.reload();
      return true;
    default:
      return false;
  }
}

/* The search of this page, or that of the jobs where it has none. */
function search() {
  const field = document.querySelector("[data-search]");
  if (field) {
    const folded = field.closest("details:not([open])");
    if (folded) folded.open = true;
    field.focus();
    field.select();
  } else if (currentRoute().name !== "jobs") {
    go(pathTo("jobs"));
    requestAnimationFrame(() => document.querySelector("[data-search]")?.focus());
  }
}

export function showHelp() {
  const rows = [
    ...Object.entries(PLACES).map(([key, [, name]]) => [["g", key], `go to ${name}`]),
    [["/"], "search"],
    [["↑", "↓"], "move between the rows of a table"],
    [["x"], "select the row"],
    [["t"], "times exact, or relative to now"],
    [["r"], "load anew"],
    [["Esc"], "close a dialog, leave a field"],
    [["?"], "this help"],
  ];
  return ask({
    title: "Keyboard shortcuts",
    cancel: "Close",
    body: [
      h(
        "dl",
        { class: "shortcuts" },
        rows.map(([keys, meaning]) => [
          h(
            "dt",
            {},
            keys.map((key) => [h("kbd", {}, key), " "]),
          ),
          h("dd", {}, meaning),
        ]),
      ),
      h(
        "label",
        { class: "check-line" },
        h("input", {
          type: "checkbox",
          checked: areOn(),
          onchange: (event) => turn(event.currentTarget.checked),
        }),
        "Shortcuts of a single letter are on",
      ),
    ],
  });
}
