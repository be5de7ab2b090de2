// A receipt in words.

import { flops, ms, percent, plural, short } from "./format.js";

/** What was read, what was wanted, and what that saved. */
export function tapeInWords(receipt) {
  const { tape_length: used, tape_length_wanted: wanted, tape_capacity: capacity } = receipt;
  if (receipt.cap === 0) return `Read no tape; up to ${capacity} tokens were there to read.`;
  return `Read ${used} of ${plural(capacity, "tape token")}; it wanted\u00a0${wanted}.`;
}

/** The useful FLOPs against those at full tape. */
export function costInWords(receipt) {
  const saved = 1 - receipt.useful_flops / receipt.full_flops;
  return saved > 0 ? `${percent(saved)} cheaper than full tape.` : "As dear as full tape.";
}

const RULES = {
  requested: (cap) => `your budget of ${cap}`,
  policy: (cap) => `a rule for your account, which allows ${cap}`,
  degraded: (cap) => `the load on the server, which allows ${cap} now`,
  deadline: (cap) => `the deadline, which leaves time for ${cap}`,
  quota: (cap) => `what is left of the quota, which allows ${cap}`,
};

/** Why it read so much and no more. */
export function whyInWords(receipt) {
  const { cap, budget_reason: reason, tape_length: used, tape_length_wanted: wanted } = receipt;
  const rule = RULES[reason]?.(cap);
  if (cap === 0) return `Nothing was read because of ${rule}.`;
  if (used < wanted) return rule ? `What ended it was ${rule}.` : "It used the whole tape.";
  if (used === receipt.tape_capacity) return "Nothing but the length of the tape ended it.";
  return rule ? `It had seen enough by itself, within ${rule}.` : "It had seen enough by itself; nothing capped it.";
}

/** The receipt's figures, as pairs of name and value. */
export function factsOf(receipt, id) {
  return [
    ["Useful", `${flops(receipt.useful_flops)} of ${flops(receipt.full_flops)} at full tape`],
    ["Ran", `${flops(receipt.executed_flops)}, in bucket ${receipt.bucket}`],
    ["Time", `${ms(receipt.total_ms)}: queue ${short(receipt.queue_ms)}, read ${short(receipt.read_ms)}, ` +
      `trunk ${short(receipt.trunk_ms)}`],
    ["Request", id],
  ];
}
