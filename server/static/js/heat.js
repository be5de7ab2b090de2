// Where the tape read, painted over the photo: a veil that thins, and glows, where more was read.

import { prepare } from "./dom.js";

const VEIL = "rgb(16 14 12 / 0.7)";
const OUTLINE_PX = 2;

/**
 * An explanation, with boxes as fractions of the photo: {hasPlaces, view, steps: [[{entry, weight, box}]]}.
 * `view` is the part of the photo that the model saw; null where nothing was read that would tell.
 */
export function toReading({ bank, input_size: input, upload_size: upload, tokens }) {
  const steps = tokens.map(({ reads }) =>
    reads.map((read) => ({ ...read, box: read.upload_box ? toFractions(read.upload_box, upload) : null })),
  );
  const first = tokens[0]?.reads[0];
  const view = first?.upload_box ? toFractions(findView(first, input), upload) : null;
  return { hasPlaces: bank === "input", view, steps };
}

/** The model's whole input in pixels of the upload, from one patch that is known in both. */
function findView({ box, upload_box: upload }, input) {
  const scaleX = (upload.right - upload.left) / (box.right - box.left);
  const scaleY = (upload.bottom - upload.top) / (box.bottom - box.top);
  const left = upload.left - box.left * scaleX;
  const top = upload.top - box.top * scaleY;
  return { left, top, right: left + input.width * scaleX, bottom: top + input.height * scaleY };
}

function toFractions({ left, top, right, bottom }, { width, height }) {
  return { x: left / width, y: top / height, width: (right - left) / width, height: (bottom - top) / height };
}

/** The weight that each bank entry has had up to a step, heaviest first: [{entry, weight, box, isNow}]. */
export function weigh(reading, step) {
  const entries = new Map();
  reading.steps.slice(0, step).forEach((reads, index) => {
    for (const { entry, weight, box, row, column } of reads) {
      const before = entries.get(entry) ?? { entry, weight: 0, box, row, column };
      entries.set(entry, { ...before, weight: before.weight + weight, isNow: index === step - 1 });
    }
  });
  return [...entries.values()].sort((a, b) => b.weight - a.weight);
}

/** Paint what has been read up to `step`; the patches of that very step get an outline where `isOutlined`. */
export function paintHeat(canvas, reading, step, { isOutlined = true } = {}) {
  const { context, width, height } = prepare(canvas);
  const whole = reading && weigh(reading, reading.steps.length);
  if (!whole?.length || !reading.hasPlaces) return;
  const [heat, ink] = readColours(canvas);
  const toPixels = (box) => [box.x * width, box.y * height, box.width * width, box.height * height];
  const heaviest = whole[0].weight;
  context.fillStyle = VEIL;
  context.fillRect(0, 0, width, height);
  if (reading.view) darkenAround(context, toPixels(reading.view), width, height);
  const patches = weigh(reading, step); // the heaviest last, where patches overlap
  for (const { weight, box } of [...patches].reverse()) paintPatch(context, toPixels(box), weight / heaviest, heat);
  if (isOutlined) outline(context, patches.filter(({ isNow }) => isNow).map(({ box }) => toPixels(box)), ink);
}

/** What was cropped away, the model cannot have read: make it darker still. */
function darkenAround(context, view, width, height) {
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(...view);
  context.fill("evenodd");
}

function paintPatch(context, pixels, strength, heat) {
  context.clearRect(...pixels);
  context.globalAlpha = 0.6 * (1 - strength);
  context.fillStyle = VEIL;
  context.fillRect(...pixels);
  context.globalAlpha = 0.16 + 0.44 * strength;
  context.fillStyle = heat;
  context.fillRect(...pixels);
  context.globalAlpha = 1;
}

function outline(context, boxes, ink) {
  context.lineWidth = OUTLINE_PX;
  context.strokeStyle = ink;
  for (const [x, y, width, height] of boxes) {
    context.strokeRect(x + OUTLINE_PX / 2, y + OUTLINE_PX / 2, width - OUTLINE_PX, height - OUTLINE_PX);
  }
}

function readColours(element) {
  const style = getComputedStyle(element);
  return [style.getPropertyValue("--glow"), style.getPropertyValue("--glow-edge")];
}
