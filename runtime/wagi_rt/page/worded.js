// Edits by text: from two texts' features to a step of the generator's styles, as wagi_rt.directions.between_texts has it.

import { UserError } from './picture.js';

const LONGEST = 60; // letters of a text in a message

/**
 * The step [C] in style space from the second text to the first.
 *
 * features: [2, F]. table: [C, 1 + F], each style's deviation and what each feature does to it. facts: the
 * page's about the text model, {step, most, threshold}. UserError for texts that mean the same.
 */
export function offsets(features, table, facts, texts) {
  const count = features.length / 2;
  const [text, neutral] = [features.slice(0, count), features.slice(count)].map(unit);
  const change = text.map((x, i) => x - neutral[i]);
  const length = norm(change);
  if (!(length > 1e-3)) {
    const [first, second] = texts.map((one) => [...one].slice(0, LONGEST).join(''));
    throw new UserError(`text: '${first}' and '${second}' mean the same to this model`);
  }
  const along = change.map((x) => x / length);
  const width = count + 1;
  const steps = Float64Array.from({ length: table.length / width }, (_, style) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += table[style * width + 1 + i] * along[i];
    return sum * facts.step;
  });
  const least = facts.threshold * largest(steps);
  const kept = steps.map((x) => (Math.abs(x) < least ? 0 : x));
  const factor = Math.min(1, facts.most / largest(kept));
  return Float32Array.from(kept, (x, style) => x * factor * table[style * width]);
}

function norm(values) {
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
}

function unit(values) {
  const length = norm(Float64Array.from(values));
  return Float64Array.from(values, (x) => x / length);
}

function largest(values) {
  return values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
}
