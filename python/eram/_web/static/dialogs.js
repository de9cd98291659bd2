// Dialogs are the browser's own: they keep the focus inside, and Escape closes them.

import { h } from "./dom.js";
import { icon } from "./icons.js";

let numberOfDialogs = 0;

/* Show a dialog; the promise ends when it closes, with what `answer(form)` made of it or null. */
export function ask({
  title,
  body,
  confirm,
  danger = false,
  answer = () => true,
  cancel = "Keep",
}) {
  const opener = document.activeElement;
  numberOfDialogs += 1;
  const titleId = `dialog-title-${numberOfDialogs}`;
  return new Promise((resolve) => {
    let result = null;
    const form = h(
      "form",
      {
        class: "dialog-form",
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          result = answer(form);
          dialog.close();
        },
      },
      h("h2", { id: titleId }, title),
      h("div", { class: "dialog-body" }, body),
      h(
        "div",
        { class: "dialog-buttons" },
        h("button", { class: "button", type: "button", onclick: () => dialog.close() }, cancel),
        confirm &&
          h(
            "button",
            {
              class: `button ${danger ? "danger" : "primary"}`,
              type: "submit",
              "data-confirm": true,
            },
            confirm,
          ),
      ),
    );
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": titleId }, form);
    dialog.onclick = (event) => {
      if (event.target === dialog) dialog.close(); // the ground behind it
    };
    dialog.onclose = () => {
      dialog.remove();
      if (opener?.isConnected) opener.focus();
      resolve(result);
    };
    document.body.append(dialog);
    dialog.showModal();
    (form.querySelector("[autofocus]") ?? form.querySelector(".dialog-buttons button")).focus();
  });
}

export function isDialogOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/* Text that can be taken along, for instance an SQL statement. */
export function copyButton(text, label = "Copy") {
  return h(
    "button",
    {
      class: "icon-button small copy",
      type: "button",
      "aria-label": label,
      title: label,
      onclick: async (event) => {
        const button = event.currentTarget;
        const done = await copy(text);
        button.replaceChildren(icon(done ? "check" : "close"));
        button.setAttribute("aria-label", done ? "Copied" : "Could not copy");
        setTimeout(() => {
          button.replaceChildren(icon("copy"));
          button.setAttribute("aria-label", label);
        }, 1500);
      },
    },
    icon("copy"),
  );
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

/* The clipboard is for secure contexts only; by plain HTTP there is just the old way. */
function copyByHand(text) {
  const area = h("textarea", { class: "visually-hidden", readonly: true, "aria-hidden": "true" });
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
