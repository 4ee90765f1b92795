// Texts as the numbers that a text model reads, as wagi_rt.texts has them.

import { UserError } from './picture.js';

const LONGEST = 40; // letters of a word in a message
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u; // Python's

/** A function that reads a text: (text) => [context] numbers. words, or the lines of a list of merges. */
export function reader({ words, context }, merges) {
  return words ? byWords(words, context) : byPairs(merges, context);
}

/** 1 for the first of the words, one past the last for the end. UserError for a word that is not among them. */
function byWords(words, context) {
  const numbers = new Map(words.map((word, i) => [word, i + 1]));
  return (text) => {
    const found = text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
    if (!found.length) throw new UserError(`the text '${cut(text)}' has no words`);
    const strange = found.find((word) => !numbers.has(word));
    if (strange) throw unknown(strange, [...numbers.keys()]);
    return row(found.map((word) => numbers.get(word)), numbers.size + 1, context);
  };
}

function cut(text) {
  return [...text].slice(0, LONGEST).join('');
}

/** `listed` where all words that the model knows should be shown, which the runtime's message names. */
function unknown(word, known) {
  const near = closest(word, known);
  const hint = near.length ? `did you mean ${near.join(' or ')}?` : 'it knows those below';
  return Object.assign(new UserError(`'${cut(word)}' is no word of this model; ${hint}`), { listed: !near.length });
}

/** Up to three words like this one, the nearest first, as Python's difflib finds them. */
function closest(word, known) {
  const letters = [...word];
  const scored = known.map((one) => [(2 * common([...one], letters)) / (one.length + letters.length), one]);
  const near = scored.filter(([score]) => score >= 0.6);
  near.sort(([a, x], [b, y]) => b - a || (x < y ? 1 : -1));
  return near.slice(0, 3).map(([, one]) => one);
}

/** Letters in the longest block that both have, the first of its length, and in those before and behind it. */
function common(a, b) {
  let [start, there, length] = [0, 0, 0];
  for (let i = 0; i < a.length; i++)
    for (let j = 0; j < b.length; j++) {
      let k = 0;
      while (i + k < a.length && a[i + k] === b[j + k]) k++;
      if (k > length) [start, there, length] = [i, j, k];
    }
  const before = () => common(a.slice(0, start), b.slice(0, there));
  const behind = () => common(a.slice(start + length), b.slice(there + length));
  return length && before() + length + behind();
}

/** start, numbers, end, zeros. */
function row(numbers, end, context, start = []) {
  const most = context - 1 - start.length;
  if (numbers.length > most)
    throw new UserError(`a text of ${numbers.length} tokens, the model reads ${most}; say it in fewer words`);
  return Float32Array.from({ length: context }, (_, i) => [...start, ...numbers, end][i] ?? 0);
}

/** CLIP's byte pairs. merges: "first second", the most frequent pair first. */
function byPairs(merges, context) {
  const letters = byteLetters();
  const joined = merges.map((pair) => pair.replace(' ', ''));
  const words = [...letters.values(), ...[...letters.values()].map((letter) => `${letter}</w>`), ...joined];
  const numbers = new Map(words.map((word, i) => [word, i]));
  const ranks = new Map(merges.map((pair, i) => [pair, i]));
  const split = /'s|'t|'re|'ve|'m|'ll|'d|[\p{L}\p{Nl}\p{No}]+|\p{Nd}|[^\p{L}\p{N} ]+/gu;
  return (text) => {
    const plain = unescaped(unescaped(text)).split(SPACE).filter(Boolean).join(' ').toLowerCase();
    const found = plain.match(split) ?? [];
    const tokens = found.flatMap((word) => parts(word, letters, ranks)).map((part) => numbers.get(part));
    return row(tokens, words.length + 1, context, [words.length]);
  };
}

/** A visible letter for each byte, in the order of the published numbers. */
function byteLetters() {
  const visible = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const hidden = bytes.filter((byte) => !visible(byte)).map((byte, i) => [byte, String.fromCharCode(256 + i)]);
  return new Map([...bytes.filter(visible).map((byte) => [byte, String.fromCharCode(byte)]), ...hidden]);
}

/** A word's letters, joined by the best pair as long as there is one. */
function parts(word, letters, ranks) {
  let found = [...new TextEncoder().encode(word)].map((byte) => letters.get(byte));
  found.push(`${found.pop()}</w>`);
  while (found.length > 1) {
    const pairs = found.slice(1).map((part, i) => `${found[i]} ${part}`);
    const best = Math.min(...pairs.map((pair) => ranks.get(pair) ?? Infinity));
    if (best === Infinity) break;
    const merged = [];
    for (let i = 0; i < found.length; ) {
      const twice = ranks.get(pairs[i]) === best;
      merged.push(twice ? found[i] + found[i + 1] : found[i]);
      i += twice ? 2 : 1;
    }
    found = merged;
  }
  return found;
}

/** A text with the letters that HTML's entities stand for. */
function unescaped(text) {
  const parsed = new DOMParser().parseFromString(`<pre>-${text.replaceAll('<', '&lt;')}`, 'text/html');
  return parsed.body.textContent.slice(1);
}
