// Small helpers over the document. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element with this id, which the page has. */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`element; got no #${id}; expected it in index.html`);
  return found;
}

/** Make an element with attributes and children; a child that is no node becomes text. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** Make a bar that is filled to a share of its track. */
export function makeFill(share) {
  const fill = make("div", { class: "fill" });
  fill.style.width = `${(share * 100).toFixed(2)}%`;
  return fill;
}

/** Make a table's head: one column header for each title. */
export function makeHead(titles) {
  return make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title))));
}

/** Size a canvas to the screen's own pixels; return its context, scaled to CSS pixels, and its size in those. */
export function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return { context, width, height };
}

/** Call back once nothing has called for `ms` milliseconds. */
export function afterPause(ms, callback) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(callback, ms);
  };
}
