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

/** The weights of each output value: [{first, weights}], whole numbers that add up to about ONE. */
function windows(from, to) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - SUPPORT * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + SUPPORT * stretch + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) => lanczos((first + k - centre + 0.5) / stretch));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map((weight) => round((weight / total) * ONE)) };
  });
}

/** Half away from zero. */
function round(x) {
  return Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
}

/** A weighted sum of values `step` apart as 8 bit. */
function blend(values, start, step, weights) {
  let sum = ONE / 2;
  for (let k = 0; k < weights.length; k++) sum += values[start + k * step] * weights[k];
  return Math.floor(sum / ONE); // the caller's array clips
}

/**
 * An RGB picture of another size: Uint8ClampedArray [to.height, to.width, 3].
 *
 * from, to: {width, height}. rows(y, count): the RGBA bytes of some rows of the source, so that a large photo
 * is never in memory a second time.
 */
export function resize(from, to, rows, strip = 256) {
  const across = windows(from.width, to.width);
  const narrow = new Uint8ClampedArray(from.height * to.width * 3);
  for (let top = 0; top < from.height; top += strip) {
    const count = Math.min(strip, from.height - top);
    const source = rows(top, count);
    for (let y = 0, at = top * to.width * 3; y < count; y++) {
      for (const { first, weights } of across) {
        const start = (y * from.width + first) * 4;
        for (let c = 0; c < 3; c++) narrow[at++] = blend(source, start + c, 4, weights);
      }
    }
  }
  const line = to.width * 3;
  const made = new Uint8ClampedArray(to.height * line);
  windows(from.height, to.height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < line; x++) made[y * line + x] = blend(narrow, first * line + x, line, weights);
  });
  return made;
}
