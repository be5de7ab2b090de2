// Numbers in words that fit their size.

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

/** Three significant digits and no needless zeros: 0.0123, 4.56, 78.9, 123. */
export function short(value) {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 4)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

/** A number and its prefixed unit, apart: {number: "165", unit: "MFLOPs"}. */
export function flopsParts(flops, unit = "FLOPs") {
  const [size, prefix] = PREFIXES.find(([size]) => Math.abs(flops) >= size * 0.9995) ?? [1, ""];
  return { number: short(flops / size), unit: prefix + unit };
}

export function flops(value) {
  const { number, unit } = flopsParts(value);
  return `${number}\u00a0${unit}`;
}

export function ms(value) {
  return `${short(value)}\u00a0ms`;
}

/** A share as a percentage; never 0 % or 100 % for what is only near. */
export function percent(share, digits = 0) {
  const least = 10 ** -digits;
  const shown = share * 100;
  if (shown > 0 && shown < least / 2) return `< ${least}\u00a0%`;
  if (shown < 100 && shown > 100 - least / 2) return `> ${100 - least}\u00a0%`;
  return `${shown.toFixed(digits)}\u00a0%`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
