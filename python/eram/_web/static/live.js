// The connection to the server: events as long as somebody looks, and the truth about whether what
// is shown is still so.

import { ApiError, address, get } from "./api.js";

const FIRST_DELAY = 1000;
const LONGEST_DELAY = 15000;
const SILENCE = 40000; // the server says something every fifteen seconds
const WATCH = 5000;

/* Conditions: joining, live, lost (no server), trouble (no database). */
export class Live extends EventTarget {
  condition = "joining";
  since = new Date();
  hint = null;
  #source = null;
  #heardAt = Date.now();
  #delay = FIRST_DELAY;
  #timer = null;

  start() {
    // A hidden page takes nothing from the server, and none of the browser's few connections.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#close();
      else this.#open();
    });
    window.addEventListener("online", () => this.#reopen());
    setInterval(() => this.#watch(), WATCH);
    if (!document.hidden) this.#open();
  }

  /* An answer of the API says as much about the connection as an event does. */
  heard() {
    if (this.condition === "lost") this.#reopen();
  }

  failed(error) {
    if (!error.isOutage) return;
    if (error.status === 503) this.#become("trouble", error.hint ?? error.message);
    else this.#become("lost", null);
  }

  #open() {
    if (this.#source) return;
    clearTimeout(this.#timer);
    this.#heardAt = Date.now();
    const source = new EventSource(address("api/events"));
    this.#source = source;
    source.addEventListener("overview", (event) => {
      this.#delay = FIRST_DELAY;
      this.#take(JSON.parse(event.data));
    });
    source.addEventListener("ping", () => {
      this.#heardAt = Date.now();
      if (this.condition !== "trouble") this.#become("live", null);
    });
    source.addEventListener("trouble", (event) => {
      const { error, hint } = JSON.parse(event.data);
      this.#become("trouble", hint ?? error ?? null);
    });
    source.addEventListener("error", () => {
      this.#reopen();
      this.#poll();
    });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
  }

  /* Not left to the browser: it gives up on an answer that is an error, and waits as it likes. */
  #reopen() {
    this.#close();
    this.#timer = setTimeout(
      () => {
        if (!document.hidden) this.#open();
      },
      this.#delay * (0.75 + Math.random() / 2),
    );
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
  }

  /* Where no stream is to be had, because of a proxy or because there are too many, asking is. */
  async #poll() {
    try {
      this.#take(await get("api/overview"));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.failed(error);
    }
  }

  #take(overview) {
    this.#become("live", null);
    this.dispatchEvent(new CustomEvent("overview", { detail: overview }));
  }

  #watch() {
    if (this.#source && Date.now() - this.#heardAt > SILENCE) {
      this.#reopen();
      this.#poll();
    }
  }

  #become(condition, hint) {
    if (condition === "live" || condition === "trouble") this.#heardAt = Date.now();
    if (condition === this.condition) return;
    // From one trouble to the other it is still the same time without fresh numbers.
    if (condition === "live" || this.condition === "live" || this.condition === "joining") {
      this.since = new Date();
    }
    this.condition = condition;
    this.hint = hint;
    this.dispatchEvent(new CustomEvent("condition"));
  }
}
