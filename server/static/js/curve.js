// The quality curve: accuracy at each cap with its interval, and where the slider stands on it.

import { byId, make, makeHead, makeSvg } from "./dom.js";
import { flops, percent, short } from "./format.js";

const HEIGHT = 250;
const MARGIN = { left: 44, right: 16, top: 28, bottom: 40 };
const FIELDS = ["accuracy", "accuracy_low", "accuracy_high", "mean_tape_length", "mean_flops"];

/** The curve at any cap: between measured ones on the straight line between them, as the server's quotes are. */
export function valueAt(points, cap) {
  const after = points.findIndex((point) => point.cap >= cap);
  if (after === 0) return points[0];
  if (after === -1) return points.at(-1);
  const [low, high] = [points[after - 1], points[after]];
  const share = (cap - low.cap) / (high.cap - low.cap);
  return Object.fromEntries(FIELDS.map((name) => [name, low[name] + share * (high[name] - low[name])]));
}

export class CurveView {
  #curve = null;
  #cap = 0;
  #capacity = 1;

  /** Show a model's curve. */
  show({ curve, tape_capacity: capacity }) {
    this.#capacity = capacity;
    this.#curve = { ...curve, points: [...curve.points].sort((a, b) => a.cap - b.cap) };
    byId("curve-table").replaceChildren(...toTable(this.#curve.points));
  }

  /** Mark the cap that the slider stands at. */
  mark(cap) {
    this.#cap = cap;
    this.draw();
  }

  /** Draw at the width there is; also after a change of size. */
  draw() {
    if (this.#curve === null) return;
    const { points, num_samples: count, split, data } = this.#curve;
    const here = valueAt(points, this.#cap);
    byId("curve-words").textContent =
      `With max_tape ${this.#cap}, ${percent(here.accuracy, 1)} of answers are right on ${data}, ${split} split ` +
      `(${count} pictures; 95 % interval ${percent(here.accuracy_low, 1)} to ${percent(here.accuracy_high, 1)}), ` +
      `for ${flops(here.mean_flops)} in the mean.`;
    byId("curve").replaceChildren(this.#toSvg(points, here));
  }

  #toSvg(points, here) {
    const width = Math.max(240, byId("curve").clientWidth);
    const ticks = accuracyTicks(points);
    const toX = (cap) => MARGIN.left + (cap / this.#capacity) * (width - MARGIN.left - MARGIN.right);
    const toY = (share) =>
      MARGIN.top + ((ticks.at(-1) - share) / (ticks.at(-1) - ticks[0])) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const label = byId("curve-words").textContent;
    return makeSvg(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": label },
      ...ticks.flatMap((tick) => accuracyTick(tick, toY(tick), width)),
      ...capTicks(this.#capacity, width).map((cap) => text(toX(cap), HEIGHT - MARGIN.bottom + 18, cap, "middle")),
      text(toX(this.#capacity), HEIGHT - 4, "max_tape", "end"),
      text(0, 10, "right answers", "start"),
      makeSvg("path", { class: "band", d: toBand(points, toX, toY) }),
      makeSvg("polyline", { class: "line", points: points.map((p) => `${toX(p.cap)},${toY(p.accuracy)}`).join(" ") }),
      ...this.#toMark(here, toX, toY, width),
    );
  }

  #toMark(here, toX, toY, width) {
    const [x, y] = [toX(this.#cap), toY(here.accuracy)];
    const isLeft = x < width * 0.75;
    return [
      makeSvg("line", { class: "bar", x1: x, x2: x, y1: toY(here.accuracy_low), y2: toY(here.accuracy_high) }),
      makeSvg("circle", { class: "here", cx: x, cy: y, r: 6 }),
      text(x + (isLeft ? 12 : -12), y - 12, percent(here.accuracy, 1), isLeft ? "start" : "end", "told"),
    ];
  }
}

function toBand(points, toX, toY) {
  const upper = points.map((p) => `${toX(p.cap)},${toY(p.accuracy_high)}`);
  const lower = points.map((p) => `${toX(p.cap)},${toY(p.accuracy_low)}`).reverse();
  return `M${[...upper, ...lower].join("L")}Z`;
}

/** Round shares that enclose the band, about five of them. */
function accuracyTicks(points) {
  const low = Math.min(...points.map((p) => p.accuracy_low));
  const high = Math.max(...points.map((p) => p.accuracy_high));
  const step = [0.01, 0.02, 0.05, 0.1, 0.2].find((size) => (high - low) / size <= 5) ?? 0.2;
  const first = Math.max(0, Math.floor(low / step));
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

function capTicks(capacity, width) {
  const step = [1, 2, 4, 8, 16, 32].find((size) => (capacity / size) * 36 <= width) ?? 64;
  return Array.from({ length: Math.floor(capacity / step) + 1 }, (_, index) => index * step);
}

function accuracyTick(share, y, width) {
  return [
    makeSvg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
    text(MARGIN.left - 8, y + 4, `${short(share * 100)} %`, "end"),
  ];
}

function text(x, y, value, anchor, name = "") {
  return makeSvg("text", { x, y, "text-anchor": anchor, class: name }, value);
}

function toTable(points) {
  const rows = points.map((p) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, p.cap),
      ...[
        percent(p.accuracy, 1),
        `${percent(p.accuracy_low, 1)} to ${percent(p.accuracy_high, 1)}`,
        p.mean_tape_length.toFixed(2),
        flops(p.mean_flops),
      ].map((value) => make("td", {}, value)),
    ),
  );
  return [makeHead(["max_tape", "Accuracy", "95 % interval", "Mean tape", "Mean cost"]), make("tbody", {}, ...rows)];
}
