// Tables: a header for every column, a box of their own to scroll in, arrow keys between the rows.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { go } from "./router.js";

/* columns: [{head, cell(row), numeric, wide, isName}]; a wide column is left out on a phone.
   selection: {isSelected(row), toggle(row), toggleAll()} puts a checkbox before each row. */
export function table({ label, columns, rows, key, selection = null }) {
  const shown = columns.filter(Boolean);
  return h(
    "div",
    { class: "table-box" },
    h(
      "table",
      { class: "table" },
      h("caption", { class: "visually-hidden" }, label),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          selection && h("th", { scope: "col", class: "select-cell" }, selectAll(rows, selection)),
          shown.map((column) =>
            h(
              "th",
              { scope: "col", class: classOf(column) },
              column.hidesHead ? h("span", { class: "visually-hidden" }, column.head) : column.head,
            ),
          ),
        ),
      ),
      h(
        "tbody",
        { onkeydown: moveByKeys },
        rows.map((row) =>
          h(
            "tr",
            {
              "data-key": String(key(row)),
              class: selection?.isSelected(row) ? "is-selected" : null,
            },
            selection && h("td", { class: "select-cell" }, selectOne(row, key, selection)),
            shown.map((column) =>
              h(
                column.isName ? "th" : "td",
                {
                  scope: column.isName ? "row" : null,
                  class: classOf(column),
                },
                column.cell(row),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function classOf({ numeric, wide, className }) {
  return [numeric && "numeric", wide && "wide-only", className].filter(Boolean).join(" ") || null;
}

function selectOne(row, key, selection) {
  return h(
    "label",
    { class: "select-label" },
    h("input", {
      type: "checkbox",
      checked: selection.isSelected(row),
      "aria-label": `Select ${key(row)}`,
      onchange: () => selection.toggle(row),
    }),
  );
}

function selectAll(rows, selection) {
  const selected = rows.filter((row) => selection.isSelected(row)).length;
  return h(
    "label",
    { class: "select-label" },
    h("input", {
      type: "checkbox",
      checked: rows.length > 0 && selected === rows.length,
      indeterminate: selected > 0 && selected < rows.length,
      "aria-label": "Select all on this page",
      onchange: () => selection.toggleAll(),
    }),
  );
}

function stops(row) {
  return [...row.querySelectorAll("a[href], button:not(:disabled), input")].filter(
    (element) => element.offsetParent !== null,
  );
}

function moveByKeys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input:not([type=checkbox])")) return;
  const row = event.target.closest("tr");
  const rows = [...row.parentElement.children];
  const here = rows.indexOf(row);
  const place = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: rows.length - 1 }[
    event.key
  ];
  if (event.key === "x") {
    row.querySelector(".select-cell input")?.click();
  } else if (place !== undefined && rows[place]) {
    const column = stops(row).indexOf(event.target);
    const there = stops(rows[place]);
    (there[column] ?? there[0])?.focus();
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

/* The pages of a list that is read on from where it ended. Going back is what the browser does. */
export function paging({ next, isFirst, first, label }) {
  if (isFirst && !next) return null;
  return h(
    "nav",
    { class: "paging", "aria-label": label },
    h(
      "button",
      {
        class: "button",
        type: "button",
        disabled: isFirst,
        onclick: () => go(first),
      },
      icon("back"),
      h("span", {}, "First"),
    ),
    h(
      "button",
      {
        class: "button",
        type: "button",
        disabled: !next,
        onclick: () => {
          go(next);
          window.scrollTo(0, 0);
        },
      },
      h("span", {}, "Next"),
      icon("next"),
    ),
  );
}
