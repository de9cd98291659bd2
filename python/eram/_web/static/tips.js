// A small box with the exact value, on hover and on focus. One for the whole page.

import { h } from "./dom.js";

let box = null;

export function watchTips() {
  box = h("div", { class: "tip", role: "tooltip", id: "tip", hidden: true });
  document.body.append(box);
  document.addEventListener("pointerover", (event) => show(event.target));
  document.addEventListener("focusin", (event) => show(event.target));
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
}

function show(target) {
  const element = target.closest?.("[data-tip]");
  if (!element) return hide();
  box.textContent = element.dataset.tip;
  box.hidden = false;
  element.setAttribute("aria-describedby", "tip");
  const place = element.getBoundingClientRect();
  const size = box.getBoundingClientRect();
  const left = Math.min(
    Math.max(8, place.left),
    document.documentElement.clientWidth - size.width - 8,
  );
  const above = place.top - size.height - 6;
  box.style.left = `${Math.max(8, left)}px`;
  box.style.top = `${above < 8 ? place.bottom + 6 : above}px`;
}

function hide() {
  if (box.hidden) return;
  box.hidden = true;
  for (const element of document.querySelectorAll("[aria-describedby=tip]")) {
    element.removeAttribute("aria-describedby");
  }
}
