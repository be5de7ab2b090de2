// The page's one state (model, budget, photo) and what follows from a change of each.

import { AskError, classify, describeModel, listModels } from "./api.js";
import { sayAnswer, showAnswer, showLabels } from "./answer.js";
import { Comparison, smallCap } from "./compare.js";
import { CurveView } from "./curve.js";
import { afterPause, byId, make } from "./dom.js";
import { toReading } from "./heat.js";
import { Live } from "./live.js";
import { Newest } from "./newest.js";
import { Notice } from "./notice.js";
import { receiveFiles, showPhoto, toPhoto } from "./photo.js";
import { Player } from "./player.js";
import { markSample, offerSamples } from "./samples.js";

const SLIDER_PAUSE_MS = 90;
const FIRST_SHARE = 0.5; // of the tape capacity: room to move in both directions
const [model, cap] = [byId("model"), byId("cap")];
const [describing, taking, asking, askingEnds] = [new Newest(), new Newest(), new Newest(), new Newest()];
const [notice, player, comparison, curve] = [new Notice(), new Player(), new Comparison(), new CurveView()];
const page = { model: null, photo: null, next: null };
const live = new Live(() => notice.isShown && resume());

/** Ask for all that is still missing, after a failure. */
function resume() {
  if (model.options.length === 0) start();
  else if (page.model?.name !== model.value) changeModel();
  else ask();
}

async function guard(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    if (error.status === 413 || error.status === 415) page.next = null;
    notice.show(error, { retry: resume, choose: () => byId("file").click() });
  }
}

/** Learn which models there are; choose the one that sees most of a photo. */
function start() {
  return guard(async () => {
    const models = (await listModels()).models.filter(({ preprocessing }) => preprocessing !== null);
    model.replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
    model.value = [...models].sort((a, b) => b.preprocessing.width - a.preprocessing.width)[0].name;
    model.disabled = false;
    await changeModel();
  });
}

function changeModel() {
  return guard(async () => {
    const found = await describing.run((signal) => describeModel(model.value, signal));
    if (found === undefined) return;
    const share = page.model === null ? FIRST_SHARE : cap.valueAsNumber / page.model.tape_capacity;
    page.model = found;
    cap.max = found.tape_capacity;
    cap.value = Math.round(share * found.tape_capacity);
    cap.disabled = false;
    curve.show(found);
    showLabels(found.labels);
    live.follow(found);
    showCap();
    compareAnew(page.photo);
    if (page.photo === null && page.next === null) byId("samples").firstElementChild.click();
    else await ask();
  });
}

function showCap() {
  const [value, capacity] = [cap.valueAsNumber, page.model.tape_capacity];
  const words = value === 0 ? "no tape" : value === capacity ? `${value}, no limit` : `at most ${value} of ${capacity}`;
  byId("cap-words").textContent = words;
  byId("cap-end").textContent = `${capacity}, as much as it wants`;
  cap.setAttribute("aria-valuetext", `${words} tape tokens`);
  curve.mark(value);
  byId("shell").textContent =
    `curl --data-binary @photo.jpg \\\n  "${new URL("v1/classify", document.baseURI)}?model=${page.model.name}&max_tape=${value}"`;
}

async function take(file, name) {
  const photo = await taking.run(() => toPhoto(file, name));
  if (photo === undefined) return;
  page.next = photo;
  await ask();
}

/** Ask about the photo at hand, or the one that is to replace it once the server has read it. */
function ask() {
  return guard(async () => {
    const photo = page.next ?? page.photo;
    if (photo === null || page.model === null) return;
    byId("answer").setAttribute("aria-busy", "true");
    const asked = cap.valueAsNumber;
    try {
      const result = await asking.run((signal) => classify(photo.blob, page.model.name, asked, signal));
      if (result === undefined) return;
      if (photo !== page.photo) settle(photo);
      show(asked, result);
    } finally {
      if (!asking.isBusy) byId("answer").setAttribute("aria-busy", "false");
    }
  });
}

/** Make a photo that the server has read the one shown. */
function settle(photo) {
  const before = page.photo;
  Object.assign(page, { photo, next: null });
  showPhoto(photo);
  markSample(photo.name);
  compareAnew(photo);
  if (before?.url) URL.revokeObjectURL(before.url);
}

function show(asked, result) {
  notice.clear();
  showAnswer(result);
  byId("said").textContent = sayAnswer(result);
  const reading = toReading(result.explanation);
  player.show(reading, result.receipt);
  comparison.put("yours", { cap: asked, result, reading });
  if (!comparison.isComplete && !askingEnds.isBusy) askEnds();
}

function compareAnew(photo) {
  askingEnds.cancel();
  comparison.begin(photo);
}

/** Ask at both ends of the comparison. Where they fail, the next answer asks again. */
async function askEnds() {
  const { photo, model: asked } = page;
  const caps = { small: smallCap(asked.tape_capacity), full: asked.tape_capacity };
  try {
    await askingEnds.run((signal) =>
      Promise.all(
        Object.entries(caps).map(async ([column, cap]) => {
          const result = await classify(photo.blob, asked.name, cap, signal);
          if (photo === page.photo && asked === page.model) {
            comparison.put(column, { cap, result, reading: toReading(result.explanation) });
          }
        }),
      ),
    );
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
  }
}

function repaint() {
  player.paint();
  comparison.paint();
  curve.draw();
}

const askSoon = afterPause(SLIDER_PAUSE_MS, ask);
cap.addEventListener("input", () => {
  showCap();
  askSoon();
});
model.addEventListener("change", changeModel);
window.addEventListener("resize", afterPause(100, repaint));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
receiveFiles(take);
offerSamples(take);
start();
