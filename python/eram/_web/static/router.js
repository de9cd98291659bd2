// Paths and pages. Links are ordinary links; a click on one that leads to a page of ours shows it
// without loading the document anew.

const BASE = new URL(document.baseURI).pathname;

const PLACES = [
  [/^$/, "overview"],
  [/^queues$/, "queues"],
  [/^queues\/(.+)$/, "queue"],
  [/^jobs$/, "jobs"],
  [/^jobs\/(\d+)$/, "job"],
  [/^schedules$/, "schedules"],
  [/^workers$/, "workers"],
  [/^handlers$/, "handlers"],
  [/^health$/, "health"],
];

export function currentRoute() {
  const path = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : "";
  const query = Object.fromEntries(new URLSearchParams(location.search));
  for (const [pattern, name] of PLACES) {
    const match = pattern.exec(path.replace(/\/$/, ""));
    if (!match) continue;
    const named = name === "queue" ? query.name : undefined;
    return { name, argument: named ?? decode(match[1]), query };
  }
  return { name: "missing", argument: path, query };
}

function decode(text) {
  try {
    return text === undefined ? null : decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function pathTo(path, query = {}) {
  const parameters = new URLSearchParams(
    Object.entries(query).filter(
      ([, value]) => value !== null && value !== undefined && value !== "",
    ),
  );
  const search = parameters.toString();
  return BASE + path + (search ? `?${search}` : "");
}

export function queuePath(name) {
  return pathTo(...queuePlace(name));
}

/* A browser takes a part of a path away that is "." or "..", however it is written. */
export function queuePlace(name) {
  return /^\.{1,2}$/.test(name)
    ? ["queues/_", { name }]
    : [`queues/${encodeURIComponent(name)}`, {}];
}

export function jobPath(id) {
  return pathTo(`jobs/${id}`);
}

export function go(path, { replace = false } = {}) {
  if (replace) history.replaceState({}, "", path);
  else history.pushState({}, "", path);
  window.dispatchEvent(new CustomEvent("eram-route"));
}

export function watchLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.dataset.plain !== undefined) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || !url.pathname.startsWith(BASE)) return;
    event.preventDefault();
    if (url.href !== location.href) go(url.pathname + url.search);
  });
  window.addEventListener("popstate", () => window.dispatchEvent(new CustomEvent("eram-route")));
}
