// A chart of the last hour by minute: stacked columns, or lines. It draws itself at the width that
// it has, and reads out one minute on hover, touch and by arrow keys.
//
// data: {label, kind: "stack" | "lines", minutes: [Date], isTime, say(value), empty,
//        isOpen, series: [{name, tone, values, isFilled, isDashed}]}

import { h, replaceChildren, svg } from "./dom.js";
import { clock } from "./format.js";
import { areaPath, heightAt, linePath, minuteTicks, pieces, ticks } from "./scales.js";

const HEIGHT = 180;
const TOP = 10;
const BOTTOM = 22;
const RIGHT = 6;
const CHARACTER = 6.4; // the width of one, about, at the size of the axis

class Chart extends HTMLElement {
  #data = null;
  #active = null; // the minute that is read out, as a number; it outlives new data
  #width = 0;
  #observer = null;
  #legend = null;
  #plot = null;
  #drawn = null;

  set data(data) {
    this.#data = data;
    if (this.isConnected) this.#draw();
  }

  get data() {
    return this.#data;
  }

  connectedCallback() {
    if (!this.#plot) this.#build();
    this.#observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      this.#draw();
    });
    this.#observer.observe(this.#plot);
    this.#draw();
  }

  disconnectedCallback() {
    this.#observer?.disconnect();
  }

  #build() {
    this.#legend = h("div", { class: "legend" });
    this.#plot = h("div", {
      class: "plot",
      tabindex: "0",
      role: "slider",
      "aria-orientation": "horizontal",
      onpointermove: (event) => this.#point(event),
      onpointerdown: (event) => this.#point(event),
      onpointerleave: () => this.#choose(null),
      onkeydown: (event) => this.#press(event),
      onfocus: () => {
        if (this.#active === null && this.#plot.matches(":focus-visible")) this.#step(Infinity);
      },
      onblur: () => this.#choose(null),
    });
    this.replaceChildren(this.#legend, this.#plot);
  }

  #place() {
    if (this.#active === null) return null;
    const place = this.#data.minutes.findIndex((minute) => minute.getTime() === this.#active);
    return place < 0 ? null : place;
  }

  #choose(place) {
    this.#active = place === null ? null : this.#data.minutes[place].getTime();
    this.#readOut();
  }

  #step(by) {
    const last = this.#data.minutes.length - 1;
    const from = this.#place() ?? last;
    this.#choose(Math.max(0, Math.min(last, from + by)));
  }

  #press(event) {
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowDown: -1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -Infinity,
      End: Infinity,
    };
    if (event.key === "Escape") return this.#choose(null);
    if (!(event.key in steps)) return undefined;
    event.preventDefault();
    return this.#step(steps[event.key]);
  }

  #point(event) {
    const { left, slot, count } = this.#drawn ?? {};
    if (!slot) return;
    const x = event.clientX - this.#plot.getBoundingClientRect().left - left;
    this.#choose(Math.max(0, Math.min(count - 1, Math.floor(x / slot))));
  }

  #draw() {
    const data = this.#data;
    if (!data || !this.#plot || !this.#width) return;
    const totals = data.minutes.map((_, place) => heightAt(data, place));
    const marks = ticks(Math.max(0, ...totals), { isTime: data.isTime });
    const top = marks.at(-1);
    const left = Math.ceil(Math.max(...marks.map((mark) => data.say(mark).length)) * CHARACTER) + 8;
    const inner = Math.max(10, this.#width - left - RIGHT);
    const slot = inner / data.minutes.length;
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    this.#drawn = { left, slot, count: data.minutes.length, y };
    const picture = svg(
      "svg",
      {
        class: "chart",
        width: this.#width,
        height: HEIGHT,
        viewBox: `0 0 ${this.#width} ${HEIGHT}`,
        "aria-hidden": "true",
      },
      this.#axes(marks, left, inner, slot, y),
      data.kind === "stack" ? this.#columns(left, slot, y) : this.#lines(left, slot, y),
      svg("g", { class: "cursor" }),
    );
    const isEmpty = totals.every((total) => !total);
    replaceChildren(this.#plot, picture, isEmpty && h("p", { class: "plot-empty" }, data.empty));
    this.#plot.setAttribute("aria-label", `${data.label}, by minute`);
    this.#plot.setAttribute("aria-valuemin", "0");
    this.#plot.setAttribute("aria-valuemax", String(data.minutes.length - 1));
    this.#readOut();
  }

  #axes(marks, left, inner, slot, y) {
    return svg(
      "g",
      { class: "axes" },
      marks.map((mark) => [
        svg("line", { class: "grid-line", x1: left, x2: left + inner, y1: y(mark), y2: y(mark) }),
        svg("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, this.#data.say(mark)),
      ]),
      minuteTicks(this.#data.minutes, inner).map(({ date, place }) => {
        const x = left + (place + 0.5) * slot;
        const anchor = x > left + inner - 16 ? "end" : x < left + 16 ? "start" : "middle";
        return svg("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, clock(date));
      }),
    );
  }

  #columns(left, slot, y) {
    const gap = slot > 5 ? 1.5 : 0.5;
    const bars = this.#data.minutes.flatMap((_, place) => {
      let sum = 0;
      return this.#data.series.map((series) => {
        const value = series.values[place] ?? 0;
        if (!value) return null;
        const from = y(sum);
        sum += value;
        // What is rare must be seen beside what is frequent.
        const height = Math.max(from - y(sum), 1.5);
        return svg("rect", {
          class: `column series-${series.tone} ${this.#isOpen(place) ? "is-open" : ""}`,
          x: (left + place * slot + gap / 2).toFixed(1),
          y: (from - height).toFixed(1),
          width: Math.max(1, slot - gap).toFixed(1),
          height: height.toFixed(1),
        });
      });
    });
    return svg("g", {}, bars);
  }

  #lines(left, slot, y) {
    return svg(
      "g",
      {},
      this.#data.series.map((series) => {
        const points = series.values.map((value, place) =>
          value === null || value === undefined ? null : [left + (place + 0.5) * slot, y(value)],
        );
        const parts = pieces(points);
        return svg(
          "g",
          { class: `series-${series.tone}` },
          series.isFilled &&
            parts
              .filter((part) => part.length > 1)
              .map((part) =>
                svg("path", {
                  class: "area",
                  d: areaPath(part, y(0)),
                }),
              ),
          svg("path", { class: `line ${series.isDashed ? "dashed" : ""}`, d: linePath(points) }),
          parts
            .filter((part) => part.length === 1)
            .map(([[cx, cy]]) => svg("circle", { class: "point", cx, cy, r: 2.5 })),
        );
      }),
    );
  }

  /* The values of one minute, or, when none is chosen, of the last that has any. */
  #readOut() {
    const data = this.#data;
    if (!data || !this.#drawn) return;
    const chosen = this.#place();
    const place = chosen ?? this.#latest();
    const when = clock(data.minutes[place]) + (this.#isOpen(place) ? ", so far" : "");
    const said = data.series.map((series) => {
      const value = series.values[place];
      return [series, value === null || value === undefined ? "–" : data.say(value)];
    });
    replaceChildren(
      this.#legend,
      h("span", { class: "legend-time" }, when),
      said.map(([series, value]) =>
        h(
          "span",
          { class: "legend-item" },
          svg(
            "svg",
            { class: `swatch series-${series.tone}`, width: 14, height: 10, "aria-hidden": "true" },
            data.kind === "stack"
              ? svg("rect", { class: "column", x: 2, width: 10, height: 10, rx: 2 })
              : svg("path", { class: `line ${series.isDashed ? "dashed" : ""}`, d: "M0,5L14,5" }),
          ),
          h("span", { class: "muted" }, series.name),
          h("strong", {}, value),
        ),
      ),
    );
    this.#plot.setAttribute("aria-valuenow", String(place));
    this.#plot.setAttribute(
      "aria-valuetext",
      `${when}: ${said.map(([series, value]) => `${series.name} ${value}`).join(", ")}`,
    );
    this.#drawCursor(chosen);
  }

  #latest() {
    const { kind, series: all } = this.#data;
    const isKnown = (value) =>
      kind === "stack" ? all.some(value) : all.every((series) => value(series) !== null);
    for (let place = this.#data.minutes.length - 1; place >= 0; place -= 1) {
      if (!this.#isOpen(place) && isKnown((series) => series.values[place])) return place;
    }
    return this.#data.minutes.length - 1;
  }

  #isOpen(place) {
    return this.#data.isOpen && place === this.#data.minutes.length - 1;
  }

  #drawCursor(place) {
    const cursor = this.#plot.querySelector(".cursor");
    if (place === null) return replaceChildren(cursor);
    const { left, slot, y } = this.#drawn;
    const x = left + (place + 0.5) * slot;
    const dots =
      this.#data.kind === "stack"
        ? []
        : this.#data.series
            .filter((series) => series.values[place] !== null && series.values[place] !== undefined)
            .map((series) =>
              svg("circle", {
                class: `cursor-dot series-${series.tone}`,
                cx: x,
                cy: y(series.values[place]),
                r: 4,
              }),
            );
    return replaceChildren(
      cursor,
      svg("line", { class: "cursor-line", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }),
      dots,
    );
  }
}

customElements.define("eram-chart", Chart);

export function chart(data) {
  return h("eram-chart", { data });
}
