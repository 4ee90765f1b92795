// Pillow's antialiased resize (Lanczos, 8 bit), value for value: a photo must become the same square here
// and in wagi_rt.pictures.

const SUPPORT = 3;
const ONE = 1 << 22; // the fixed point in which Pillow keeps its weights

/** The Lanczos window at x. */
function lanczos(x) {
  if (x <= -SUPPORT || x >= SUPPORT) return 0;
  return sinc(x) * sinc(x / SUPPORT);
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The weights of each output value, which add up to 1: [{first, weights}]. */
export function windows(from, to) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - SUPPORT * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + SUPPORT * stretch + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) => lanczos((first + k - centre + 0.5) / stretch));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: Float64Array.from(raw, (weight) => weight / total) };
  });
}

/** The same as whole numbers that add up to about ONE. */
function fixed(from, to) {
  return windows(from, to).map(({ first, weights }) => ({ first, weights: weights.map((one) => round(one * ONE)) }));
}

/** The nearest whole number, of two equally near ones the even one, as Python rounds. */
export function even(x) {
  return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Half away from zero. */
function round(x) {
  return Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
}

/**
 * Sums of RGB values, one for each window, as 8 bit: what Pillow does along a row, and down a column.
 *
 * start: of the line in values; step: between values along it, each at least three wide.
 */
function blend(values, start, step, windows, made, at, stride) {
  for (const { first, weights } of windows) {
    let [red, green, blue] = [ONE / 2, ONE / 2, ONE / 2];
    for (let k = 0, i = start + first * step; k < weights.length; k++, i += step) {
      red += values[i] * weights[k];
      green += values[i + 1] * weights[k];
      blue += values[i + 2] * weights[k];
    }
    made[at] = Math.floor(red / ONE); // the array clips
    made[at + 1] = Math.floor(green / ONE);
    made[at + 2] = Math.floor(blue / ONE);
    at += stride;
  }
}

/**
 * An RGB picture of another size: Uint8ClampedArray [to.height, to.width, 3].
 *
 * from, to: {width, height}. rows(y, count): the RGBA bytes of some rows of the source, so that a large photo
 * is never in memory a second time.
 */
export function resize(from, to, rows, strip = 256) {
  const line = to.width * 3;
  const across = fixed(from.width, to.width);
  const narrow = new Uint8ClampedArray(from.height * line);
  for (let top = 0; top < from.height; top += strip) {
    const count = Math.min(strip, from.height - top);
    const source = rows(top, count);
    for (let y = 0; y < count; y++) blend(source, y * from.width * 4, 4, across, narrow, (top + y) * line, 3);
  }
  const down = fixed(from.height, to.height);
  const made = new Uint8ClampedArray(to.height * line);
  for (let x = 0; x < line; x += 3) blend(narrow, x, line, down, made, x, line);
  return made;
}
