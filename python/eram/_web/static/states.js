// States and levels: a word, an icon and a colour, in this order of importance.

import { h } from "./dom.js";
import { icon } from "./icons.js";

export const STATES = {
  available: { icon: "inbox", tone: "info", meaning: "waits, and is due" },
  scheduled: { icon: "clock", tone: "plum", meaning: "waits for its time" },
  executing: { icon: "play", tone: "accent", meaning: "a worker runs it" },
  retryable: { icon: "retry", tone: "warn", meaning: "failed, and waits for its next attempt" },
  completed: { icon: "check", tone: "good", meaning: "done" },
  discarded: { icon: "critical", tone: "bad", meaning: "given up for good" },
  cancelled: { icon: "cancel", tone: "calm", meaning: "ended because it was no longer wanted" },
};

export const ENDED = new Set(["completed", "discarded", "cancelled"]);

const LEVELS = {
  ok: { icon: "check", tone: "good" },
  warn: { icon: "warn", tone: "warn" },
  critical: { icon: "critical", tone: "bad" },
  unknown: { icon: "unknown", tone: "calm" },
};

const CONDITIONS = {
  alive: { icon: "check", tone: "good" },
  silent: { icon: "warn", tone: "warn" },
  missing: { icon: "critical", tone: "bad" },
};

function badge(word, { icon: name, tone, meaning } = { icon: "unknown", tone: "calm" }) {
  return h("span", { class: `badge tone-${tone}`, title: meaning }, icon(name), word);
}

export function stateBadge(state) {
  return badge(state, STATES[state]);
}

export function levelBadge(level) {
  return badge(level, LEVELS[level]);
}

export function conditionBadge(condition) {
  return badge(condition, CONDITIONS[condition]);
}

export function pausedBadge() {
  return badge("paused", { icon: "pause", tone: "warn", meaning: "nothing of it is claimed" });
}
