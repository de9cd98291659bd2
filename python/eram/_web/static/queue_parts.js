// What can be done to a queue, in its row and on its own page.

import { h } from "./dom.js";
import { count, number } from "./format.js";
import { complain } from "./notices.js";
import { button } from "./parts.js";

export function pauseButton(queue, context, { small = false } = {}) {
  if (queue.is_paused) {
    return (
      context.may("resume_queue") &&
      button("Resume", {
        icon: "play",
        small,
        title: `Let workers claim from ${queue.queue} again`,
        onclick: () =>
          context.act("resume_queue", { queue: queue.queue }, `Queue ${queue.queue} goes on`),
      })
    );
  }
  return (
    context.may("pause_queue") &&
    button("Pause", {
      icon: "pause",
      small,
      title: `Claim nothing more from ${queue.queue}; what runs goes on`,
      onclick: () =>
        context.act("pause_queue", { queue: queue.queue }, `Queue ${queue.queue} is paused`),
    })
  );
}

/* How many may run at a time: the number itself is the button that changes it, in place. While it
   is being changed, nothing around it is renewed. */
export function limitControl(queue, context) {
  const shown = queue.global_limit === null ? "no limit" : number(queue.global_limit);
  if (!context.may("set_limit"))
    return h("span", { class: queue.global_limit ? null : "muted" }, shown);
  if (context.state.limitOf !== queue.queue) {
    return h(
      "button",
      {
        class: "inline-button",
        type: "button",
        "data-key": "limit",
        "aria-label": `Limit of ${queue.queue}: ${shown}. Change`,
        onclick: () => {
          context.state.limitOf = queue.queue;
          context.update();
          document.querySelector("[data-limit]")?.select();
        },
      },
      shown,
    );
  }
  return limitForm(queue, context);
}

function limitForm(queue, context) {
  const close = () => {
    context.state.limitOf = null;
    context.update();
  };
  return h(
    "form",
    {
      class: "inline-form",
      "data-key": "limit-form",
      onsubmit: (event) => {
        event.preventDefault();
        const text = event.currentTarget.elements.limit.value.trim();
        if (text !== "" && !/^[1-9]\d*$/.test(text)) {
          complain({
            message: "a limit is a whole number from 1 on",
            hint: "Leave it empty for no limit.",
          });
          return;
        }
        close();
        context.act(
          "set_limit",
          { queue: queue.queue, global_limit: text === "" ? null : Number(text) },
          text === ""
            ? `Queue ${queue.queue} has no limit`
            : `At most ${number(Number(text))} of ${queue.queue} run at a time`,
        );
      },
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        close();
      },
    },
    h("input", {
      class: "input narrow",
      name: "limit",
      inputmode: "numeric",
      autocomplete: "off",
      "data-limit": true,
      "aria-label": `Limit of ${queue.queue}; empty for none`,
      placeholder: "none",
      value: queue.global_limit ?? "",
    }),
    h("button", { class: "button small primary", type: "submit" }, "Set"),
    h("button", { class: "button small", type: "button", onclick: close }, "Leave"),
  );
}

export function waiting(queue) {
  return count(queue.waiting_count, queue.is_estimate);
}
