// Pillow's and numpy's operations on a picture of floats, {planes: [Float32Array], width, height}; each is as
// near to theirs as single precision allows.

import { even, windows } from './resize.js';

/** A box of a photo, the mean over blocks of `factor` x `factor` pixels, whole numbers. photo: {data: RGBA, width}. */
export function part(photo, [left, top, right, bottom], factor) {
  const [width, height] = [Math.ceil((right - left) / factor), Math.ceil((bottom - top) / factor)];
  const planes = [0, 1, 2].map(() => new Float32Array(width * height));
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++) {
      const [x0, y0] = [left + x * factor, top + y * factor];
      const [x1, y1] = [Math.min(right, x0 + factor), Math.min(bottom, y0 + factor)];
      const sums = [0, 0, 0];
      for (let v = y0; v < y1; v++)
        for (let u = x0, i = (v * photo.width + x0) * 4; u < x1; u++, i += 4)
          for (let c = 0; c < 3; c++) sums[c] += photo.data[i + c];
      const count = (x1 - x0) * (y1 - y0);
      const share = Math.floor(2 ** 24 / count); // Pillow's fixed point
      for (let c = 0; c < 3; c++) planes[c][at] = Math.floor(((sums[c] + (count >> 1)) * share) / 2 ** 24);
    }
  return { planes, width, height };
}

/** A picture resampled (bicubic); [a, b, c, d, e, f] maps px of the result to px of the source, 0 outside. */
export function transform({ planes, width, height }, to, [a, b, c, d, e, f]) {
  const made = planes.map(() => new Float32Array(to.width * to.height));
  const columns = new Int32Array(4);
  for (let y = 0, at = 0; y < to.height; y++)
    for (let x = 0; x < to.width; x++, at++) {
      const u = a * (x + 0.5) + b * (y + 0.5) + c;
      const v = d * (x + 0.5) + e * (y + 0.5) + f;
      if (!(u >= 0 && u < width && v >= 0 && v < height)) continue;
      const [left, top] = [Math.floor(u - 0.5), Math.floor(v - 0.5)];
      const [across, down] = [cubic(u - 0.5 - left), cubic(v - 0.5 - top)];
      for (let k = 0; k < 4; k++) columns[k] = Math.min(width - 1, Math.max(0, left - 1 + k));
      for (let p = 0; p < planes.length; p++) {
        let sum = 0;
        for (let j = 0; j < 4; j++) {
          const line = Math.min(height - 1, Math.max(0, top - 1 + j)) * width;
          let row = 0;
          for (let k = 0; k < 4; k++) row += across[k] * planes[p][line + columns[k]];
          sum += down[j] * row;
        }
        made[p][at] = sum;
      }
    }
  return { planes: made, ...to };
}

/** The weights of four neighbours, at d behind the second. */
function cubic(d) {
  return [d * (-1 + d * (2 - d)), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)];
}

/** A square picture of another size, by Lanczos' filter. */
export function resizeSquare({ planes, width }, side) {
  const weights = windows(width, side);
  const turnedTwice = planes.map((plane) => narrowed(narrowed(plane, width, weights), width, weights));
  return { planes: turnedTwice, width: side, height: side };
}

/** Each line of `width` values made narrower and laid down as a column, so that twice is both ways. */
function narrowed(plane, width, weights) {
  const lines = plane.length / width;
  const made = new Float32Array(weights.length * lines);
  weights.forEach(({ first, weights: own }, x) => {
    for (let y = 0; y < lines; y++) {
      let sum = 0;
      for (let k = 0, i = y * width + first; k < own.length; k++, i++) sum += own[k] * plane[i];
      made[x * lines + y] = sum;
    }
  });
  return made;
}

/** A picture mirrored beyond its borders (numpy's "reflect"), by some px at each. */
export function mirrored({ planes, width, height }, [left, top], [right, bottom]) {
  const columns = Array.from({ length: left + width + right }, (_, x) => reflect(x - left, width));
  const lines = Array.from({ length: top + height + bottom }, (_, y) => reflect(y - top, height));
  const grow = (plane) => Float32Array.from({ length: columns.length * lines.length }, (_, i) =>
    plane[lines[Math.floor(i / columns.length)] * width + columns[i % columns.length]]);
  return { planes: planes.map(grow), width: columns.length, height: lines.length };
}

function reflect(at, length) {
  if (length === 1) return 0;
  const round = 2 * (length - 1);
  const place = ((at % round) + round) % round;
  return Math.min(place, round - place);
}

/** Pillow's Gaussian blur of a picture of whole numbers: three box blurs along each axis, rounded each time. */
export function blurred({ planes, width, height }, deviation) {
  const variance = deviation ** 2 / 3;
  const whole = Math.floor((Math.sqrt(12 * variance + 1) - 1) / 2);
  const rest = ((2 * whole + 1) * (whole * (whole + 1) - 3 * variance)) / (6 * (variance - (whole + 1) ** 2));
  const both = (plane) => {
    let made = plane;
    for (const length of [width, height]) {
      for (let k = 0; k < 3; k++) made = boxed(made, length, whole, rest);
      made = narrowed(made, length, Array.from({ length }, (_, first) => ({ first, weights: [1] })));
    }
    return made;
  };
  return { planes: planes.map(both), width, height };
}

/** Means along each line, over `whole` and a part of a value on either side; borders go on as they are. */
function boxed(plane, width, whole, rest) {
  const made = new Float32Array(plane.length);
  const inner = 1 / (2 * (whole + rest) + 1);
  const outer = (1 - inner * (2 * whole + 1)) / 2;
  const inside = (x) => Math.min(width - 1, Math.max(0, x));
  for (let line = 0; line < plane.length; line += width) {
    let sum = 0;
    for (let x = -whole; x <= whole; x++) sum += plane[line + inside(x)];
    for (let x = 0; x < width; x++) {
      const ends = plane[line + inside(x - whole - 1)] + plane[line + inside(x + whole + 1)];
      made[line + x] = Math.floor(sum * inner + ends * outer + 0.5);
      sum += plane[line + inside(x + whole + 1)] - plane[line + inside(x - whole)];
    }
  }
  return made;
}

/** The middle of the values of a plane, as numpy takes it. */
export function median(plane) {
  const sorted = Float32Array.from(plane).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Whole numbers from 0 to 255. */
export function rounded({ planes, ...size }) {
  return { planes: planes.map((plane) => plane.map((x) => Math.min(255, Math.max(0, even(x))))), ...size };
}
