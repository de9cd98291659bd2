// The page that is shown: loads its data, builds it, and renews it without disturbing the reader.
//
// A page is an object with `title(context)`, `load(context, signal)` and `view(data, context)`; it
// may have `holds(context)`, which says that nothing must change now, and `takes(overview)`, which
// makes its data of what the server sends anyway.

import { ApiError, act } from "./api.js";
import { h, morph } from "./dom.js";
import { complain, notice } from "./notices.js";
import { failure, pageHead, skeleton } from "./parts.js";

// A page that is dear to load is loaded less often: it costs the database a tenth of its time.
const REST = 10;

export class Page {
  #root;
  #live;
  #pages;
  #definition = null;
  #key = null;
  #element = null;
  #data;
  #error = null;
  #abort = null;
  #loadedAt = 0;
  #took = 0;
  context = { state: {} };

  constructor(root, pages, live) {
    this.#root = root;
    this.#pages = pages;
    this.#live = live;
    live.addEventListener("overview", (event) => this.#renew(event.detail));
  }

  async show(route, session) {
    const key = `${route.name} ${route.argument ?? ""}`;
    const isSame = key === this.#key;
    const isFirst = this.#key === null;
    this.#definition = this.#pages[route.name] ?? this.#pages.missing;
    this.#key = key;
    this.context = {
      route,
      session,
      state: {},
      live: this.#live,
      update: () => this.update(),
      reload: () => this.reload(),
      may: (action) => session.may_act && session.actions.includes(action),
      act: (name, body, done, leave) => this.#act(name, body, done, leave),
    };
    if (!isSame) {
      this.#data = undefined;
      this.#error = null;
      this.#root.replaceChildren();
      this.#element = null;
      window.scrollTo(0, 0);
      this.update();
      // A document that was just loaded is begun at its top, as everywhere.
      if (!isFirst) this.#focusTitle();
    }
    await this.reload();
  }

  async reload() {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const began = performance.now();
    this.#element?.setAttribute("aria-busy", "true");
    try {
      const data = await this.#definition.load(this.context, abort.signal);
      if (abort.signal.aborted) return;
      this.#data = data;
      this.#error = null;
      this.#live.heard();
    } catch (error) {
      if (abort.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.#error = error;
      this.#live.failed(error);
    }
    this.#abort = null;
    this.#took = performance.now() - began;
    this.#loadedAt = performance.now();
    this.update();
  }

  /* Build the page from the data there is. */
  update() {
    const title = this.#definition.title(this.context, this.#data);
    document.title = title === "Overview" ? "eram" : `${title} · eram`;
    const next = h(
      "div",
      {
        class: `page page-${this.context.route.name}`,
        "data-key": this.#key,
        "aria-busy": this.#abort ? "true" : null,
      },
      this.#content(title),
    );
    if (this.#element) this.#element = morph(this.#element, next);
    else this.#root.append((this.#element = next));
  }

  #content(title) {
    if (this.#data !== undefined) {
      // With the old data on show, the banner speaks of outages; other errors are said here.
      const error = this.#error && !this.#error.isOutage ? failure(this.#error) : null;
      return [error, this.#definition.view(this.#data, this.context)];
    }
    if (this.#error) {
      const again = this.#error.status === 404 ? null : () => this.reload();
      const frame = this.#definition.frame?.(this.context);
      return [pageHead(title), frame, failure(this.#error, again)];
    }
    return [pageHead(title), skeleton()];
  }

  #renew(overview) {
    if (!this.#definition || this.#abort) return;
    if (this.#definition.takes) {
      this.#data = this.#definition.takes(overview);
      this.#error = null;
      this.update();
    } else if (!this.#definition.holds?.(this.context) && !this.#isResting) {
      this.reload();
    }
  }

  get #isResting() {
    if (this.#error) return false;
    return performance.now() - this.#loadedAt < this.#took * REST;
  }

  /* Carry out an action, say so, and show what has become of it, or leave when it is gone. */
  async #act(name, body, done, leave = null) {
    try {
      const answer = await act(name, body);
      notice(typeof done === "function" ? done(answer) : done);
      if (leave) leave();
      else await this.reload();
      return answer;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      complain(error);
      return null;
    }
  }

  #focusTitle() {
    this.#element.querySelector("h1")?.focus({ preventScroll: true });
  }
}
