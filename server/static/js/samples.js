// Drawings to try, made by this page, so that it needs no photo to start with and brings nobody else's.

import { byId, make } from "./dom.js";
import { toBlob } from "./photo.js";
import { SCENES } from "./scenes.js";

const WIDTH = 480;
const HEIGHT = 360;
const SEED = 7;

/** Show the drawings as buttons; call `take(blob, name)` with the one chosen. */
export function offerSamples(take) {
  const buttons = Object.entries(SCENES).map(([name, draw]) => {
    const canvas = make("canvas", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
    draw(canvas.getContext("2d", { willReadFrequently: true }), WIDTH, HEIGHT, makeRandom(SEED));
    const button = make("button", { type: "button", "aria-label": `Drawing: ${name}`, "aria-pressed": "false" }, canvas);
    button.addEventListener("click", async () => take(await toBlob(canvas, "image/png"), `Drawing: ${name}`));
    button.dataset.name = `Drawing: ${name}`;
    return button;
  });
  byId("samples").replaceChildren(...buttons);
}

/** Mark the drawing with this name as the one shown, if there is one. */
export function markSample(name) {
  for (const button of byId("samples").children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
}

/** Numbers from 0 to 1, the same ones at every visit. */
function makeRandom(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
