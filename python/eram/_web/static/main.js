// Puts the page together: the frame around it, and what happens when the address changes.

import { ApiError, loadSession, logOut } from "./api.js";
import { h, replaceChildren } from "./dom.js";
import { exact, keepTimesFresh, clock } from "./format.js";
import { icon } from "./icons.js";
import { Live } from "./live.js";
import { Page } from "./page.js";
import { handlersPage } from "./page_handlers.js";
import { healthPage } from "./page_health.js";
import { jobPage } from "./page_job.js";
import { jobsPage } from "./page_jobs.js";
import { overviewPage } from "./page_overview.js";
import { queuePage } from "./page_queue.js";
import { queuesPage } from "./page_queues.js";
import { schedulesPage } from "./page_schedules.js";
import { workersPage } from "./page_workers.js";
import { emptyState, failure, pageHead } from "./parts.js";
import { currentRoute, pathTo, watchLinks } from "./router.js";
import { showHelp, watchKeys } from "./shortcuts.js";
import { watchTips } from "./tips.js";

const PLACES = [
  ["overview", "", "Overview"],
  ["queues", "queues", "Queues"],
  ["jobs", "jobs", "Jobs"],
  ["schedules", "schedules", "Schedules"],
  ["workers", "workers", "Workers"],
  ["handlers", "handlers", "Handlers"],
  ["health", "health", "Health"],
];
const PARENTS = { queue: "queues", job: "jobs" };
const RETRY_MILLISECONDS = 3000;

const missingPage = {
  title: () => "Nothing here",
  load: async () => ({}),
  view: () => [
    pageHead("Nothing here"),
    emptyState("search", "There is no such page", "The address may be misspelt."),
  ],
};

const at = (id) => document.getElementById(id);
const live = new Live();
const page = new Page(
  at("main"),
  {
    overview: overviewPage,
    queues: queuesPage,
    queue: queuePage,
    jobs: jobsPage,
    job: jobPage,
    schedules: schedulesPage,
    workers: workersPage,
    handlers: handlersPage,
    health: healthPage,
    missing: missingPage,
  },
  live,
);
let session = null;

function showNavigation(route, level) {
  const here = PARENTS[route.name] ?? route.name;
  const links = PLACES.map(([name, path, title]) =>
    h(
      "li",
      {},
      h(
        "a",
        {
          href: pathTo(path),
          "aria-current": name === here ? "page" : null,
        },
        icon(name),
        h("span", {}, title),
        name === "health" &&
          level &&
          level !== "ok" &&
          h("span", { class: `dot dot-${level}`, role: "img", "aria-label": level }),
      ),
    ),
  );
  const note =
    session &&
    !session.may_act &&
    h(
      "p",
      {
        class: "read-only",
        tabindex: "0",
        "data-tip": session.actions_hint ?? "The server was started without --allow-actions.",
      },
      "Read-only",
    );
  const out =
    session?.needs_login &&
    h("button", { class: "button quiet", type: "button", onclick: logOut }, "Log out");
  replaceChildren(
    at("navigation"),
    h("ul", {}, links),
    h(
      "div",
      { class: "navigation-foot" },
      note,
      out,
      h("p", { class: "muted" }, session ? `eram ${session.version}` : ""),
    ),
  );
}

function closeMenu() {
  at("menu-button").setAttribute("aria-expanded", "false");
  at("navigation").classList.remove("open");
}

function showTheme() {
  const { current } = window.eramTheme;
  const button = at("theme-button");
  const words = { system: "as the system", light: "light", dark: "dark" };
  const label = `Colours: ${words[current]}`;
  button.setAttribute("aria-label", `${label}. Change to ${words[window.eramTheme.next()]}`);
  button.title = label;
  replaceChildren(button, icon(current));
}

/* How fresh what is shown is: a word in the frame, and a banner when it is not. */
function showConnection() {
  const words = {
    joining: "Connecting",
    live: "Live",
    lost: "No connection",
    trouble: "No database",
  };
  at("connection").dataset.condition = live.condition;
  at("connection-text").textContent = words[live.condition];
  const isStale = live.condition === "lost" || live.condition === "trouble";
  document.body.classList.toggle("is-stale", isStale);
  at("banner").hidden = !isStale;
  if (!isStale) return;
  const whom = live.condition === "lost" ? "the server" : "the database";
  replaceChildren(
    at("banner"),
    icon("warn"),
    h(
      "div",
      {},
      h(
        "p",
        {},
        `No connection to ${whom} since `,
        h("time", { "data-tip": exact(live.since), tabindex: "0" }, clock(live.since)),
        ". What is shown is as old as that; it is tried again by itself.",
      ),
      live.hint && h("p", { class: "muted" }, live.hint),
    ),
  );
}

function showRoute() {
  const route = currentRoute();
  closeMenu();
  showNavigation(route, live.level);
  page.show(route, session);
}

function buildFrame() {
  replaceChildren(at("menu-button"), icon("menu"));
  replaceChildren(at("help-button"), icon("help"));
  at("help-button").onclick = showHelp;
  at("menu-button").onclick = () => {
    const opens = at("menu-button").getAttribute("aria-expanded") !== "true";
    at("menu-button").setAttribute("aria-expanded", String(opens));
    at("navigation").classList.toggle("open", opens);
    if (opens) at("navigation").querySelector("a").focus();
  };
  at("navigation").onkeydown = (event) => {
    if (event.key !== "Escape" || !at("navigation").classList.contains("open")) return;
    closeMenu();
    at("menu-button").focus();
  };
  // With a base address, "#main" alone would lead to another page.
  at("skip-link").onclick = (event) => {
    event.preventDefault();
    at("main").focus();
  };
  at("theme-button").onclick = () => {
    window.eramTheme.choose(window.eramTheme.next());
    showTheme();
  };
  showTheme();
}

async function join() {
  for (;;) {
    try {
      session = await loadSession();
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      replaceChildren(at("main"), pageHead("eram"), failure(error));
      live.failed(error);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }
}

async function start() {
  buildFrame();
  showNavigation(currentRoute(), null);
  live.addEventListener("condition", showConnection);
  await join();
  at("main").replaceChildren();
  replaceChildren(
    at("where"),
    h("strong", {}, session.database),
    h("span", { class: "muted" }, ` · ${session.schema}`),
  );
  live.addEventListener("overview", (event) => {
    const { level } = event.detail.health;
    if (level === live.level) return;
    live.level = level;
    showNavigation(currentRoute(), level);
  });
  window.addEventListener("eram-route", showRoute);
  watchLinks();
  watchKeys(page);
  watchTips();
  keepTimesFresh();
  showRoute();
  live.start();
}

start();
