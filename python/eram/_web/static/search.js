// The field that searches a list by name, as one types.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { go, pathTo } from "./router.js";

const TYPING_MILLISECONDS = 250;

let typing = null;

export function searchField(page, text) {
  const search = (value) => {
    clearTimeout(typing);
    // Each letter is no page to come back to.
    go(pathTo(page, { search: value }), { replace: true });
  };
  return h(
    "form",
    {
      class: "search",
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        search(event.currentTarget.elements.search.value);
      },
    },
    icon("search"),
    h("input", {
      class: "input",
      type: "search",
      name: "search",
      "aria-label": `Search ${page} by name`,
      placeholder: "Search by name",
      autocomplete: "off",
      "data-search": true,
      value: text ?? "",
      oninput: (event) => {
        const { value } = event.currentTarget;
        clearTimeout(typing);
        typing = setTimeout(() => search(value), TYPING_MILLISECONDS);
      },
    }),
  );
}
