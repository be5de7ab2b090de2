// The live strip: what all callers get from this server, from readings of its metrics.

import { readMetrics } from "./api.js";
import { byId, make } from "./dom.js";
import { flopsParts, percent, short } from "./format.js";
import { growth, parse, quantile, select, sum } from "./prometheus.js";

const EVERY_MS = 2000;
const WINDOW_S = 30;
const SETTLED = "adatape_requests_total";
const DURATION = "adatape_request_duration_seconds";
const FLOPS = "adatape_flops_total";
const LENGTHS = "adatape_tape_length_used";
const CAP = "adatape_controller_cap";

export class Live {
  #readings = [];
  #model = null;
  #timer = 0;
  #onReturn;
  #isGone = false;

  /** `onReturn` is called when the server answers again after it did not. */
  constructor(onReturn) {
    this.#onReturn = onReturn;
    document.addEventListener("visibilitychange", () => this.#wake());
    this.#wake();
  }

  /** Show the tape lengths and the cap of this model. */
  follow(model) {
    this.#model = model;
    this.#render();
  }

  /** Read while the page is looked at; a gap in between would blur the rates. */
  #wake() {
    clearTimeout(this.#timer);
    this.#readings = [];
    if (!document.hidden) this.#read();
  }

  async #read() {
    try {
      const samples = parse(await readMetrics());
      this.#keep({ samples, atS: performance.now() / 1000 });
      if (this.#isGone) this.#onReturn();
      this.#isGone = false;
    } catch {
      this.#readings = [];
      this.#isGone = true;
    }
    this.#render();
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#read(), EVERY_MS);
  }

  #keep(reading) {
    const last = this.#readings.at(-1);
    if (last && sum(reading.samples, SETTLED) < sum(last.samples, SETTLED)) this.#readings = []; // it has restarted
    this.#readings.push(reading);
    this.#readings = this.#readings.filter(({ atS }) => reading.atS - atS <= WINDOW_S);
  }

  #render() {
    const [first, last] = [this.#readings[0], this.#readings.at(-1)];
    byId("live-words").textContent = this.#inWords(first, last);
    const tiles = first ? toTiles(first, last, this.#model) : toEmptyTiles();
    byId("live").replaceChildren(...tiles.map(toTile));
    if (this.#model) showLengths(first ? growth(first.samples, last.samples, LENGTHS, this.#named) : [], this.#model);
  }

  get #named() {
    return { model: this.#model.name };
  }

  #inWords(first, last) {
    if (this.#isGone) return "The server does not answer. This page keeps asking.";
    if (!first) return "Reading the metrics.";
    const seconds = Math.max(EVERY_MS / 1000, Math.round(last.atS - first.atS));
    return `All callers over the last ${seconds} s, from the server's metrics.`;
  }
}

/** The five figures: [name, number, unit, note]. */
function toTiles(first, last, model) {
  const seconds = last.atS - first.atS;
  const grown = (name, labels) => sum(last.samples, name, labels) - sum(first.samples, name, labels);
  const requests = grown(SETTLED);
  const buckets = growth(first.samples, last.samples, DURATION);
  const work = grown(FLOPS);
  const rate = flopsParts(seconds > 0 ? work / seconds : 0, "FLOP/s");
  return [
    ["Requests a second", seconds > 0 ? short(requests / seconds) : "–", "", failures(requests, grown(SETTLED, { outcome: "ok" }))],
    latency("Half within", 0.5, buckets),
    latency("99 % within", 0.99, buckets),
    ["FLOPs", work > 0 ? rate.number : "0", work > 0 ? rate.unit : "FLOP/s", useful(work, grown(FLOPS, { kind: "useful" }))],
    cap(last, model),
  ];
}

function failures(requests, answered) {
  if (requests === 0) return "nobody asks";
  return requests === answered ? "all answered" : `${requests - answered} of ${requests} not answered`;
}

function latency(name, share, buckets) {
  const seconds = quantile(share, buckets);
  return seconds === null ? [name, "–", "", "no answers"] : [name, short(seconds * 1000), "ms", share === 0.5 ? "p50" : "p99"];
}

function useful(work, part) {
  return work > 0 ? `${percent(part / work)} useful` : "idle";
}

function cap(last, model) {
  const found = model && select(last.samples, CAP, { model: model.name })[0];
  if (!found) return ["Cap now", "none", "", "no service level set"];
  return ["Cap now", short(found.value), `of ${model.tape_capacity}`, found.value < model.tape_capacity ? "shortened for load" : "not shortened"];
}

function toEmptyTiles() {
  return ["Requests a second", "Half within", "99 % within", "FLOPs", "Cap now"].map((name) => [name, "–", "", ""]);
}

function toTile([name, number, unit, note]) {
  return make(
    "div",
    {},
    make("dt", {}, name),
    make("dd", { class: "value" }, number, unit ? make("small", {}, ` ${unit}`) : ""),
    make("dd", { class: "note" }, note),
  );
}

/** Bars by tape length, up to the bucket that holds the model's capacity: beyond it there is nothing to show. */
function showLengths(buckets, { name, tape_capacity: capacity }) {
  const shown = buckets.filter((_, index) => index === 0 || buckets[index - 1].edge < capacity);
  const total = shown.reduce((sum, { count }) => sum + count, 0);
  const most = Math.max(1, ...shown.map(({ count }) => count));
  byId("lengths-words").textContent = total
    ? `${total} answers of ${name}, by tape length`
    : `by ${name}: no answers in the last ${WINDOW_S} s`;
  const bars = shown.length ? shown : Array.from({ length: capacity + 1 }, (_, edge) => ({ edge, count: 0 }));
  byId("lengths").replaceChildren(...bars.map(({ edge, count }) => toBar(edge, count, count / most)));
}

function toBar(edge, count, share) {
  const bar = make("div", { class: count ? "fill is-some" : "fill" });
  bar.style.height = `${share * 70}%`;
  return make("div", {}, count ? make("small", {}, count) : "", bar, make("small", {}, edge === Infinity ? "∞" : edge));
}
