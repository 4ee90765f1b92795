// The way from a photo to an upright square with one face and back, as wagi_rt.faces.alignment has it.
// A point is [x, y] in px of the photo, whose first pixel's centre is at (0.5, 0.5). A quad has its corners in
// the order upper left, lower left, lower right, upper right. A photo is {data: RGBA, width, height}.

import { UserError } from './picture.js';
import { blurred, median, mirrored, part, resizeSquare, rounded, transform } from './planes.js';
import { even } from './resize.js';

const FEATHER = 0.1; // as the runtime's
const OUTSIDE = 4;

export const add = (a, b) => [a[0] + b[0], a[1] + b[1]];
export const subtract = (a, b) => [a[0] - b[0], a[1] - b[1]];
export const times = (a, factor) => [a[0] * factor, a[1] * factor];
export const mean = (points) => times(points.reduce(add), 1 / points.length);
const clip = (x, low, high) => Math.min(high, Math.max(low, x));

/** The quad around a centre whose right edge is at `right` from it. */
export function square(centre, right) {
  const below = [-right[1], right[0]];
  const [sum, difference] = [add(right, below), subtract(right, below)];
  return [subtract(centre, sum), subtract(centre, difference), add(centre, sum), add(centre, difference)];
}

/** The square that FFHQ cuts out of a photo. eyes, mouth: two points each. */
export function faceQuad(eyes, mouth) {
  const across = subtract(eyes[1], eyes[0]);
  const down = subtract(mean(mouth), mean(eyes));
  const right = [across[0] + down[1], across[1] - down[0]];
  const half = Math.max(2 * Math.hypot(...across), 1.8 * Math.hypot(...down));
  return square(add(mean(eyes), times(down, 0.1)), times(right, half / Math.hypot(...right)));
}

/** Left, top, right, bottom of the pixels of a photo that a quad touches. */
function boxOf(quad, { width, height }) {
  const [xs, ys] = [quad.map(([x]) => x), quad.map(([, y]) => y)];
  const low = [Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys))];
  const high = [Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys))];
  return [...low, ...high].map((value, i) => clip(value, 0, i % 2 ? height : width));
}

/** A quad of a photo and the size of the square that it becomes. */
export class Alignment {
  constructor(quad, size) {
    const [right, below] = [subtract(quad[3], quad[0]), subtract(quad[1], quad[0])];
    Object.assign(this, { quad, size, side: (Math.hypot(...right) + Math.hypot(...below)) / 2 });
    // From px of the square to px of the photo, and back: [a, b, c, d, e, f] of an affine map.
    this.matrix = [right[0] / size, below[0] / size, quad[0][0], right[1] / size, below[1] / size, quad[0][1]];
    const [a, b, c, d, e, f] = this.matrix;
    const area = a * e - b * d;
    this.inverse = [e, -b, b * f - e * c, -d, a, d * c - a * f].map((value) => value / area);
  }

  /** The square out of a photo as a picture of whole numbers; outside of the photo mirrored and blurred, or 0. */
  cut(photo, mirror = true) {
    const { side, size } = this;
    const scale = Math.max(1, Math.floor(side / size));
    let [pixels, offset] = this.part(photo, scale);
    if (mirror) {
      const inside = this.quad.map((corner) => times(subtract(corner, offset), 1 / scale));
      const [grown, before] = padded(pixels, inside, side / scale);
      [pixels, offset] = [grown, subtract(offset, times(before, scale))];
    }
    const drawn = side <= scale * size ? size : 2 * size;
    const [a, b, c, d, e, f] = this.matrix;
    const step = size / drawn;
    const matrix = [a * step, b * step, c - offset[0], d * step, e * step, f - offset[1]].map((x) => x / scale);
    const made = transform(pixels, { width: drawn, height: drawn }, matrix);
    return rounded(drawn > size ? resizeSquare(made, size) : made);
  }

  /** The part of a photo that is needed, made smaller, and where it begins. */
  part(photo, scale) {
    const middle = mean(this.quad);
    const border = Math.max(3, even(0.1 * this.side));
    const grown = this.quad.map((corner) => add(corner, subtract(corner, middle).map((x) => Math.sign(x) * border)));
    const box = boxOf(grown, photo);
    const far = Math.max(Math.abs(middle[0] - photo.width / 2), Math.abs(middle[1] - photo.height / 2)) + this.side / 2;
    if (box[0] >= box[2] || box[1] >= box[3] || far > OUTSIDE * Math.max(photo.width, photo.height))
      throw new UserError('a face lies outside of the photo');
    return [part(photo, box, scale), [box[0], box[1]]];
  }

  /** A square's values where they lie in a box of the photo. */
  put(planes, [left, top, right, bottom]) {
    const { size } = this;
    const drawn = Math.min(size, Math.max(2, even(this.side)));
    const ratio = drawn / size;
    const [a, b, c, d, e, f] = this.inverse;
    const inverse = [a, b, c + a * left + b * top, d, e, f + d * left + e * top].map((value) => value * ratio);
    const whole = { planes, width: size, height: size };
    const source = ratio < 1 ? resizeSquare(whole, drawn) : whole;
    return transform(source, { width: right - left, height: bottom - top }, inverse).planes;
  }

  /** A pixel of the photo as a position in the square, whose borders are 0 and 1. */
  place(x, y) {
    const [a, b, c, d, e, f] = this.inverse;
    const [u, v] = [x + 0.5, y + 0.5];
    return [(a * u + b * v + c) / this.size, (d * u + e * v + f) / this.size];
  }
}

/** A part with what a quad wants outside of it, mirrored and blurred, and by how much it grew at left and top. */
function padded(pixels, quad, side) {
  const margin = Math.max(3, even(0.1 * side));
  const [xs, ys] = [quad.map(([x]) => x), quad.map(([, y]) => y)];
  const before = [xs, ys].map((values) => Math.ceil(margin - Math.min(...values)));
  const after = [[xs, pixels.width], [ys, pixels.height]].map(([values, length]) =>
    Math.ceil(margin + Math.max(...values) - length));
  if (Math.max(...before, ...after) <= margin - 4) return [pixels, [0, 0]];
  const least = even(0.3 * side);
  const [head, tail] = [before, after].map((sides) => sides.map((length) => Math.max(length, least)));
  const whole = mirrored(pixels, head, tail);
  const soft = blurred(whole, 0.02 * side);
  const across = outside(pixels.width, head[0], tail[0]);
  const down = outside(pixels.height, head[1], tail[1]);
  const far = Float32Array.from({ length: across.length * down.length }, (_, i) =>
    Math.max(down[Math.floor(i / across.length)], across[i % across.length]));
  const planes = whole.planes.map((plane, p) => {
    const values = plane.map((x, i) => x + (soft.planes[p][i] - x) * clip(3 * far[i] + 1, 0, 1));
    const middle = median(values);
    return values.map((x, i) => x + (middle - x) * clip(far[i], 0, 1));
  });
  return [rounded({ ...whole, planes }), head];
}

/** How far outside of `length` px each is: 1 at the end of the padding, 0 at its start, below 0 inside. */
function outside(length, before, after) {
  const last = before + length + after - 1;
  return Float32Array.from({ length: last + 1 }, (_, x) => 1 - Math.min(x / before, (last - x) / after));
}

/** The share of each square that is put back: [{box, share: Float32Array}], as wagi_rt.faces.alignment.weights. */
export function weights(alignments, photo) {
  const boxes = alignments.map(({ quad }) => boxOf(quad, photo));
  return alignments.map((alignment, i) => {
    const box = boxes[i];
    const others = alignments.filter((_, k) => k !== i && overlap(box, boxes[k]));
    const share = new Float32Array((box[2] - box[0]) * (box[3] - box[1]));
    for (let y = box[1], n = 0; y < box[3]; y++)
      for (let x = box[0]; x < box[2]; x++, n++) {
        const at = alignment.place(x, y);
        const inside = clip(Math.min(...at, 1 - at[0], 1 - at[1]) / FEATHER, 0, 1);
        share[n] = inside * inside * (3 - 2 * inside);
        for (const other of inside ? others : [])
          share[n] *= clip(0.5 + (distance(other.place(x, y)) - distance(at)) / (2 * FEATHER), 0, 1);
      }
    return { box, share };
  });
}

/**
 * Puts squares back into a photo, soft at the borders. faces: [{quad, after, before}], RGBA of [size, size];
 * with `before`, what `after` was made from, only the difference is added.
 */
export function paste(photo, faces, size) {
  const alignments = faces.map(({ quad }) => new Alignment(quad, size));
  weights(alignments, photo).forEach(({ box, share }, i) => {
    const { after, before } = faces[i];
    const planes = [0, 1, 2].map((c) =>
      Float32Array.from({ length: size * size }, (_, k) => after[4 * k + c] - (before ? before[4 * k + c] : 0)));
    const there = alignments[i].put(planes, box);
    for (let y = box[1], n = 0; y < box[3]; y++)
      for (let x = box[0], at = (y * photo.width + x) * 4; x < box[2]; x++, n++, at += 4)
        for (let c = 0; c < 3; c++) {
          const change = there[c][n] - (before ? 0 : photo.data[at + c]);
          photo.data[at + c] += share[n] * change; // the array rounds and clips
        }
  });
}

function overlap(a, b) {
  return Math.max(a[0], b[0]) < Math.min(a[2], b[2]) && Math.max(a[1], b[1]) < Math.min(a[3], b[3]);
}

function distance([x, y]) {
  return Math.hypot(x - 0.5, y - 0.5);
}
