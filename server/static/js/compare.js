// The same photo at a small budget, at the visitor's and at full tape, side by side.

import { byId, make } from "./dom.js";
import { flops, ms, percent } from "./format.js";
import { paintHeat } from "./heat.js";

const COLUMNS = ["small", "yours", "full"];
const TITLES = { small: "Small", yours: "Yours", full: "Full" };

/** A cap well below the capacity, at which there is still a tape to look at. */
export function smallCap(capacity) {
  return Math.max(1, Math.round(capacity / 8));
}

export class Comparison {
  #columns = {};
  #photo = null;

  /** Start again with another photo or model. */
  begin(photo) {
    this.#photo = photo;
    this.#columns = {};
    this.#render();
  }

  /** Whether both ends have been answered. */
  get isComplete() {
    return Boolean(this.#columns.small && this.#columns.full);
  }

  /** Put an answer in a column: {cap, result, reading}. */
  put(column, answer) {
    this.#columns[column] = answer;
    this.#render();
  }

  /** Paint the heat maps; also after a change of size or theme. */
  paint() {
    for (const canvas of byId("compare").querySelectorAll("canvas")) {
      const { reading } = this.#columns[canvas.dataset.column];
      paintHeat(canvas, reading, reading.steps.length, { isOutlined: false });
    }
  }

  #render() {
    const rows = [
      ["Read", (answer, column) => this.#toThumb(column)],
      ["Answer", ({ result }) => answerOf(result)],
      ["Tape", ({ result: { receipt } }) => tapeOf(receipt)],
      ["Cost", ({ result: { receipt } }) => costOf(receipt)],
      ["Took", ({ result: { receipt } }) => ms(receipt.total_ms)],
    ];
    const body = make("tbody", {}, ...rows.map(([title, show]) => this.#toRow(title, show)));
    const widths = make("colgroup", {}, ...["", ...COLUMNS].map(() => make("col")));
    byId("compare").replaceChildren(widths, this.#toHead(), body);
    this.paint();
    byId("verdict").textContent = this.#inWords();
  }

  #toHead() {
    const cells = COLUMNS.map((column) => {
      const cap = this.#columns[column]?.cap;
      const note = make("span", {}, cap === undefined ? "…" : `max_tape ${cap}`);
      return make("th", { scope: "col", class: column === "yours" ? "is-yours" : "" }, TITLES[column], note);
    });
    return make("thead", {}, make("tr", {}, make("td"), ...cells));
  }

  #toRow(title, show) {
    const cells = COLUMNS.map((column) => {
      const answer = this.#columns[column];
      return make("td", { class: column === "yours" ? "is-yours" : "" }, answer ? show(answer, column) : "…");
    });
    return make("tr", {}, make("th", { scope: "row" }, title), ...cells);
  }

  #toThumb(column) {
    const thumb = make("div", { class: "thumb" });
    thumb.style.setProperty("--ratio", this.#photo.ratio);
    const count = this.#columns[column].reading.steps.length;
    if (this.#photo.url) thumb.append(make("img", { src: this.#photo.url, alt: `What ${count} tape tokens read` }));
    const canvas = make("canvas", { "aria-hidden": "true" });
    canvas.dataset.column = column;
    thumb.append(canvas);
    return thumb;
  }

  #inWords() {
    const { small, full } = this.#columns;
    if (!small || !full) return "The same photo at a small budget, at yours and at full tape.";
    const [little, much] = [small, full].map(({ result }) => result.predictions[0].label);
    if (little !== much) return `A small budget says ${little}, full tape says ${much}: here the tape matters.`;
    const saved = 1 - small.result.receipt.useful_flops / full.result.receipt.useful_flops;
    return saved > 0
      ? `A small budget already gives full tape's answer, for ${percent(saved)} less.`
      : "A small budget is all that this photo wants: full tape reads no more.";
  }
}

function answerOf({ predictions: [{ label, probability }] }) {
  return `${label}, ${percent(probability)}`;
}

function tapeOf({ tape_length: used, tape_length_wanted: wanted }) {
  return wanted === null || wanted === used ? `${used}` : `${used}, wanted ${wanted}`;
}

function costOf({ useful_flops: useful, full_flops: full }) {
  return `${flops(useful)}, ${percent(useful / full)} of full`;
}
