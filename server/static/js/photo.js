// A photo on its way in: chosen, dropped, pasted or drawn; made small enough to send again and again.

import { byId } from "./dom.js";

const ENOUGH_BYTES = 1024 * 1024;
const ENOUGH_PX = 1024;

/**
 * Prepare a file: {blob, url, name, caption, ratio}. A big one is sent smaller, because every move of the slider
 * sends it again and the model reads far fewer pixels. What the browser cannot decode goes to the server as it is.
 */
export async function toPhoto(file, name = file.name) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) return { blob: file, url: null, name, caption: `${name}, which this browser cannot show`, ratio: 1 };
  const { width, height } = bitmap;
  const blob = file.size > ENOUGH_BYTES ? await shrink(bitmap) : file;
  bitmap.close();
  const caption = blob === file ? `${name}, ${width} × ${height}` : `${name}, ${width} × ${height}, sent smaller`;
  return { blob, url: URL.createObjectURL(blob), name, caption, ratio: width / height };
}

async function shrink(bitmap) {
  const scale = Math.min(1, ENOUGH_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // as the server does where a picture is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return toBlob(canvas, "image/jpeg");
}

export function toBlob(canvas, type) {
  return new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
}

/** Show a photo in the stage. */
export function showPhoto({ url, name, caption, ratio }) {
  const image = byId("photo");
  image.hidden = url === null;
  if (url !== null) image.src = url;
  image.alt = `Your photo: ${name}`;
  byId("frame").style.setProperty("--ratio", ratio);
  byId("caption").textContent = caption;
}

/** Call `take(file)` for each file chosen, dropped anywhere on the page, or pasted. */
export function receiveFiles(take) {
  const input = byId("file");
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => takeFirst(clipboardData, take));
  const stage = byId("stage");
  let depth = 0;
  const hover = (change) => {
    depth = change === 0 ? 0 : depth + change;
    stage.classList.toggle("is-over", depth > 0);
  };
  document.addEventListener("dragenter", () => hover(1));
  document.addEventListener("dragleave", () => hover(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    hover(0);
    takeFirst(event.dataTransfer, take);
  });
}

function takeFirst(transfer, take) {
  const [file] = transfer?.files ?? [];
  if (file) take(file);
}
