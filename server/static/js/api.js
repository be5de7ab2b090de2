// The server's API, as this page uses it. Paths are relative, so that a prefix in front of the server does no harm.

const TOP_K = 5;
const KEY = "api-key"; // kept for this tab, until it is closed

/** A question that was not answered. `status` is 0 where nobody was there to answer. */
export class AskError extends Error {
  constructor(message, { status = 0, retryAfterS = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Show this key with every question from now on; an empty one is none. */
export function useKey(key) {
  if (key === "") sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

export function listModels(signal) {
  return json("v1/models", { signal });
}

/** A model's description and its quality curve. */
export async function describeModel(name, signal) {
  const path = `v1/models/${encodeURIComponent(name)}`;
  const [model, curve] = await Promise.all([json(path, { signal }), json(`${path}/curve`, { signal })]);
  return { ...model, curve };
}

/** Classify one photo; the result tells the classes, the receipt and what the tape read. */
export async function classify(blob, model, cap, signal) {
  const query = new URLSearchParams({ model, max_tape: cap, top_k: TOP_K, explain: true });
  const answer = await json(`v1/classify?${query}`, {
    method: "POST",
    body: blob,
    headers: { "Content-Type": blob.type || "application/octet-stream" },
    signal,
  });
  return { id: answer.id, ...answer.results[0] };
}

/** The metrics in Prometheus's text format. */
export function readMetrics(signal) {
  return send("metrics", { headers: { Accept: "text/plain" }, signal }, (response) => response.text());
}

function json(path, options) {
  return send(path, options, (response) => response.json());
}

/** Send a request and read its answer with `read`; whatever goes wrong on the way is an AskError of status 0. */
async function send(path, options, read) {
  let failed;
  try {
    const response = await fetch(path, withKey(options));
    if (response.ok) return await read(response);
    failed = await toError(response);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    failed = new AskError(error.message);
  }
  throw failed;
}

function withKey(options) {
  const key = sessionStorage.getItem(KEY);
  return key === null ? options : { ...options, headers: { ...options.headers, "X-API-Key": key } };
}

/** Every failure of the server says {"error": ...}; what stands in front of it may say anything. */
async function toError(response) {
  const text = await response.text();
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  let message = `${response.status} ${response.statusText}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // The status alone has to do.
  }
  return new AskError(message, {
    status: response.status,
    retryAfterS: Number.isFinite(seconds) ? Math.max(0, seconds) : null,
  });
}
