// The tape as a strip of cells, and the steps of reading it: play, or move through them by hand.

import { byId, make } from "./dom.js";
import { paintHeat, weigh } from "./heat.js";
import { plural } from "./format.js";

const STEP_MS = 450;
const THUMB_PX = 16;

export class Player {
  #reading = null;
  #timer = 0;
  #step = byId("step");
  #tape = byId("tape");

  constructor() {
    this.#step.addEventListener("input", () => {
      this.stop();
      this.paint();
    });
    byId("play").addEventListener("click", () => (this.#timer ? this.stop() : this.#play()));
    this.#tape.addEventListener("click", ({ target }) => this.#jump([...this.#tape.children].indexOf(target) + 1));
  }

  /** Show what one answer read: the whole tape at first. */
  show(reading, receipt) {
    this.stop();
    this.#reading = reading;
    const { tape_length: used, tape_length_wanted: wanted, tape_capacity: capacity } = receipt;
    const cells = Array.from({ length: capacity }, (_, index) =>
      make("span", { class: index < used ? "is-read" : index < (wanted ?? 0) ? "is-wanted" : "" }),
    );
    this.#tape.replaceChildren(...cells);
    this.#step.max = used;
    this.#step.value = used;
    this.#step.style.width = `calc(${THUMB_PX}px + (100% - ${THUMB_PX}px) * ${used / capacity})`;
    this.#step.disabled = used === 0;
    byId("play").disabled = used === 0;
    this.paint();
  }

  /** Paint the step at hand; also after a change of size or theme. */
  paint() {
    if (this.#reading === null) return;
    const step = this.#step.valueAsNumber;
    paintHeat(byId("heat"), this.#reading, step);
    [...this.#tape.children].forEach((cell, index) => cell.classList.toggle("is-shown", index < step));
    const words = this.#inWords(step);
    byId("step-words").textContent = words;
    this.#step.setAttribute("aria-valuetext", words);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#showPlaying(false);
  }

  #play() {
    if (this.#step.valueAsNumber >= Number(this.#step.max)) this.#step.value = 0;
    this.#showPlaying(true);
    this.paint();
    this.#timer = setTimeout(() => this.#advance(), STEP_MS);
  }

  #advance() {
    this.#step.value = this.#step.valueAsNumber + 1;
    this.paint();
    if (this.#step.valueAsNumber >= Number(this.#step.max)) this.stop();
    else this.#timer = setTimeout(() => this.#advance(), STEP_MS);
  }

  #jump(step) {
    if (step < 1 || this.#step.disabled) return;
    this.stop();
    this.#step.value = step; // beyond the last one read, the range stops there by itself
    this.paint();
  }

  #showPlaying(isPlaying) {
    byId("play").classList.toggle("is-playing", isPlaying);
    byId("play").setAttribute("aria-label", isPlaying ? "Pause the tape" : "Play the tape");
  }

  #inWords(step) {
    const { steps, hasPlaces } = this.#reading;
    if (steps.length === 0) return "No tape was read, so there is nothing to show.";
    if (!hasPlaces) return `Step ${step} of ${steps.length}. This model's bank is learned and has no place in the photo.`;
    if (step === 0) return `Before the first of ${plural(steps.length, "step")}.`;
    const seen = plural(weigh(this.#reading, step).length, "patch", "patches");
    const [best] = [...steps[step - 1]].sort((a, b) => b.weight - a.weight);
    return `Step ${step} of ${steps.length}: most at row ${best.row + 1}, column ${best.column + 1}; ${seen} so far.`;
  }
}
