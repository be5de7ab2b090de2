// Prometheus's text format, read; and what two readings of it say about the time between them.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Parse an exposition: a Map from a metric's name to its samples, [{labels, value}]. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (match === null) continue;
    const [, name, labels = "", value] = match;
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels: parseLabels(labels), value: toNumber(value) });
  }
  return samples;
}

function parseLabels(text) {
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, unescape(value)]));
}

function unescape(value) {
  return value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
}

function toNumber(text) {
  return { "+Inf": Infinity, "-Inf": -Infinity }[text] ?? Number(text);
}

/** The samples of a metric whose labels have these values. */
export function select(samples, name, labels = {}) {
  const wanted = Object.entries(labels);
  return (samples.get(name) ?? []).filter((sample) => wanted.every(([key, value]) => sample.labels[key] === value));
}

export function sum(samples, name, labels = {}) {
  return select(samples, name, labels).reduce((total, { value }) => total + value, 0);
}

/** A histogram's growth from one reading to the next: [{edge, count}], counts not cumulative, edges rising. */
export function growth(before, after, name, labels = {}) {
  const cumulative = new Map();
  for (const [samples, sign] of [[before, -1], [after, 1]]) {
    for (const { labels: found, value } of select(samples, `${name}_bucket`, labels)) {
      const edge = toNumber(found.le);
      cumulative.set(edge, (cumulative.get(edge) ?? 0) + sign * value);
    }
  }
  const rising = [...cumulative].sort(([a], [b]) => a - b);
  return rising.map(([edge, count], index) => ({ edge, count: count - (rising[index - 1]?.[1] ?? 0) }));
}

/** A quantile of a histogram, on the straight line within its bucket; null of an empty one. */
export function quantile(share, buckets) {
  const total = buckets.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return null;
  let [below, floor] = [0, 0];
  for (const { edge, count } of buckets) {
    if (count > 0 && below + count >= share * total) {
      return edge === Infinity ? floor : floor + ((edge - floor) * (share * total - below)) / count;
    }
    below += count;
    floor = edge;
  }
  return floor;
}
