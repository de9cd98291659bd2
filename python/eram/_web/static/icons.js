// Our own icons, drawn on 20 by 20. Strokes take the colour of the text beside them.

import { svg } from "./dom.js";

const PATHS = {
  overview: "M3 17V10M8 17V4M13 17v-9M18 17v-4",
  queues: "M3 5h14M3 10h14M3 15h8",
  jobs: "M4 4h12v12H4zM7 10l2.2 2.2L13.5 8",
  schedules: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M10 6.5V10l2.5 2",
  workers: "M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.01M6 13.5h.01",
  handlers: "M7 5L2.5 10L7 15M13 5l4.5 5L13 15",
  health: "M2 10h4l2-5l3.5 10L14 10h4",
  menu: "M3 6h14M3 10h14M3 14h14",
  close: "M5 5l10 10M15 5L5 15",
  search: "M9 3.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M13.2 13.2L17 17",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1 1-1.1 1.8M10 14.5h.01M10 2.5a7.5 7.5 0 1 0 0 15a7.5 7.5 0 0 0 0-15",
  system: "M3 4h14v9H3zM7 16.5h6M10 13v3.5",
  light:
    "M10 6.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 0 0 0-7M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1 1M14.7 14.7l1 1M4.3 15.7l1-1M14.7 5.3l1-1",
  dark: "M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3z",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6 4l10 6l-10 6z",
  retry: "M16 5v4h-4M15.6 9A6 6 0 1 0 16 11.5",
  cancel: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M5.2 5.2l9.6 9.6",
  delete: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6M8.5 9v4M11.5 9v4",
  copy: "M7 7h9v9H7zM4 13V4h9",
  edit: "M4 16l.8-3.5L13 4.3l2.7 2.7l-8.2 8.2z",
  check: "M4 10.5l4 4l8-9",
  warn: "M10 3.5L17.5 16.5h-15zM10 8.5v3.5M10 14.3h.01",
  critical: "M6.8 2.8h6.4l4 4v6.4l-4 4H6.8l-4-4V6.8zM10 6.5v4.5M10 13.5h.01",
  unknown: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M7 10h6",
  clock: "M10 3a7 7 0 1 0 0 14a7 7 0 0 0 0-14M10 6.5V10l2.5 2",
  next: "M8 5l5 5l-5 5",
  back: "M12 5l-5 5l5 5",
  bolt: "M11 2.5L4.5 11.5H9.5L9 17.5L15.5 8.5H10.5z",
  inbox: "M3 11l2.5-7h9L17 11v5H3zM3 11h4l1 2h4l1-2h4",
};

export function icon(name) {
  return svg(
    "svg",
    {
      class: `icon icon-${name}`,
      viewBox: "0 0 20 20",
      width: 20,
      height: 20,
      "aria-hidden": "true",
    },
    svg("path", { d: PATHS[name] ?? PATHS.unknown }),
  );
}
