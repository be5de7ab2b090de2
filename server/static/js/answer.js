// The classes with their bars, and the receipt.

import { byId, make, makeFill } from "./dom.js";
import { percent } from "./format.js";
import { costInWords, factsOf, tapeInWords, whyInWords } from "./words.js";

const MAX_NAMED = 12;

/** Show one result. */
export function showAnswer(result) {
  byId("classes").replaceChildren(...result.predictions.map(toItem));
  const { receipt } = result;
  byId("receipt").replaceChildren(`${tapeInWords(receipt)} `, make("strong", {}, costInWords(receipt)));
  byId("why").textContent = whyInWords(receipt);
  const pairs = factsOf(receipt, result.id);
  byId("facts").replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/** Say which classes there are: a photo of anything else gets one of them all the same. */
export function showLabels(labels) {
  const named = labels.slice(0, MAX_NAMED).join(", ");
  const rest = labels.length > MAX_NAMED ? ` and ${labels.length - MAX_NAMED} more` : "";
  byId("knows").textContent = `It knows only ${named}${rest}: anything else gets one of these names too.`;
}

/** The answer in one sentence, for those who listen. */
export function sayAnswer(result) {
  const [best] = result.predictions;
  return `${best.label}, ${percent(best.probability)}. ${tapeInWords(result.receipt)} ${costInWords(result.receipt)}`;
}

function toItem({ label, probability }) {
  return make(
    "li",
    {},
    make("span", { class: "label" }, label),
    make("span", { class: "share" }, percent(probability)),
    make("div", { class: "track", "aria-hidden": "true" }, makeFill(probability)),
  );
}
