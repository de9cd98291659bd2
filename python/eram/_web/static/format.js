// Numbers, durations and times as people read them, and the exact value beside them.

import { h } from "./dom.js";

const numbers = new Intl.NumberFormat("en");
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RENEWAL_MILLISECONDS = 5000;

let showsExact = false;

export function number(value) {
  return value === null || value === undefined ? "–" : numbers.format(value);
}

/* A count; an estimate has a tilde, and says so to who cannot see that. */
export function count(value, isEstimate = false) {
  if (value === null || value === undefined) return "–";
  if (!isEstimate) return number(value);
  return h(
    "span",
    { title: "an estimate" },
    h("span", { class: "visually-hidden" }, "about "),
    h("span", { "aria-hidden": "true" }, "~"),
    number(value),
  );
}

export function plural(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/* Seconds in the two units that matter: 0.24 s, 3.1 s, 2 min 5 s, 3 h 12 min, 4 d 2 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const sign = seconds < 0 ? "−" : "";
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${sign}${trim(size * 1e6, 0)} µs`;
  if (size < 1) return `${sign}${trim(size * 1000, size < 0.01 ? 1 : 0)} ms`;
  if (size < 9.95) return `${sign}${trim(size, 1)} s`;
  if (size < MINUTE) return `${sign}${Math.min(59, Math.round(size))} s`;
  if (size < HOUR) return sign + pair(size, MINUTE, "min", 1, "s");
  if (size < DAY) return sign + pair(size, HOUR, "h", MINUTE, "min");
  return sign + pair(size, DAY, "d", HOUR, "h");
}

function trim(value, digits) {
  return String(Number(value.toFixed(digits)));
}

function pair(seconds, large, largeName, small, smallName) {
  const units = Math.floor(seconds / small);
  const perLarge = large / small;
  const rest = units % perLarge;
  const whole = `${number(Math.floor(units / perLarge))} ${largeName}`;
  return rest ? `${whole} ${rest} ${smallName}` : whole;
}

export function ago(date, now = Date.now()) {
  const seconds = (now - date.getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const coarse = roughly(Math.abs(seconds));
  return seconds < 0 ? `in ${coarse}` : `${coarse} ago`;
}

/* One unit is enough to say how long ago something was. */
function roughly(seconds) {
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)} h`;
  return `${number(Math.floor(seconds / DAY))} days`;
}

function digits(value, length = 2) {
  return String(value).padStart(length, "0");
}

export function clock(date) {
  return `${digits(date.getHours())}:${digits(date.getMinutes())}`;
}

function stamp(date) {
  const day = `${date.getFullYear()}-${digits(date.getMonth() + 1)}-${digits(date.getDate())}`;
  return `${day} ${clock(date)}:${digits(date.getSeconds())}`;
}

/* By the reader's clock, and by that of the logs. */
export function exact(date) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local";
  const utc = date.toISOString().replace("T", " ").replace("Z", "");
  const local = `${stamp(date)} ${zone}`;
  return zone === "UTC" ? `${utc} UTC` : `${local} · ${utc} UTC`;
}

/* A time: relative, and exact on hover and focus, or the other way round when the reader wants. */
export function time(value, { focusable = false, empty = "–" } = {}) {
  if (!value) return h("span", { class: "muted" }, empty);
  const date = new Date(value);
  return h(
    "time",
    {
      datetime: value,
      "data-tip": exact(date),
      tabindex: focusable ? "0" : null,
    },
    showsExact ? stamp(date) : ago(date),
  );
}

export function toggleExact() {
  showsExact = !showsExact;
  renewTimes();
  return showsExact;
}

function renewTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const date = new Date(element.getAttribute("datetime"));
    const text = showsExact ? stamp(date) : ago(date);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function keepTimesFresh() {
  setInterval(() => {
    if (!document.hidden) renewTimes();
  }, RENEWAL_MILLISECONDS);
}

export function bytes(value) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${trim(size, size < 10 && unit ? 1 : 0)} ${units[unit]}`;
}
