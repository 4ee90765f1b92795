// The faces of a photo, as wagi_rt.faces.detection finds them; its constants come from there as data.

import { add, Alignment, faceQuad, mean, square, subtract, times } from './alignment.js';

/** Finds faces. facts: wagi_rt.faces.detection.facts(); run(graph, tensor): a face model's outputs in order. */
export class Detector {
  constructor(facts, run) {
    Object.assign(this, { facts, run });
  }

  /** The faces of a photo, the largest first: [{quad, notes}]. */
  async find(photo) {
    const boxes = [];
    for (const tile of this.tiles(photo)) boxes.push(...(await this.look(photo, tile)));
    const faces = [];
    for (const box of this.distinct(boxes)) {
      const face = await this.refine(photo, box);
      if (face && !faces.some((other) => isSame(face, other))) faces.push(face);
    }
    faces.sort((a, b) => b.apart - a.apart);
    return faces.map((face) => ({ quad: faceQuad(face.eyes, face.mouth), notes: this.notes(face) }));
  }

  notes({ apart, outside, yaw }) {
    const { small, cut, profile } = this.facts;
    return [
      apart < small && `small, ${apart.toFixed(0)} px between the eyes`,
      outside > cut && "cut off by the photo's border",
      Math.abs(yaw) > profile && `a profile, turned by about ${Math.abs(yaw).toFixed(0)} degrees`,
    ].filter(Boolean);
  }

  /** Squares that are looked at: the whole photo; of a large one also nine overlapping halves. */
  tiles({ width, height }) {
    const longest = Math.max(width, height);
    const places = [[width / 2, height / 2, longest]];
    if (longest > this.facts.tiled)
      for (const x of [1, 2, 3])
        for (const y of [1, 2, 3]) places.push([(width * x) / 4, (height * y) / 4, longest / 2]);
    return places.map(([x, y, side]) => new Alignment(square([x, y], [side / 2, 0]), this.facts.side));
  }

  /** The boxes that the detector reports in one square of the photo, in its four right angles. */
  async look(photo, tile) {
    const { side, cells, confidence } = this.facts;
    const upright = tensor(tile.cut(photo, false).planes, (x) => Math.fround(x / 127.5) - 1);
    const turned = [upright];
    for (let k = 1; k < 4; k++) turned.push(turn(turned[k - 1], side));
    const data = new Float32Array(4 * upright.length);
    turned.forEach((one, k) => data.set(one, k * upright.length));
    const [found, scores] = await this.run('detector', { data, dims: [4, 3, side, side] });
    const least = Math.log(confidence / (1 - confidence));
    const boxes = [];
    scores.data.forEach((logit, at) => {
      if (!(logit > least)) return;
      const [turns, cell] = [Math.floor(at / cells ** 2), at % cells ** 2];
      const values = found.data.subarray(at * 16, at * 16 + 8);
      const centre = [cell % cells, Math.floor(cell / cells)].map((x) => ((x + 0.5) * side) / cells);
      const [middle, half] = [add(values.subarray(0, 2), centre), times(values.subarray(2, 4), 0.5)];
      const points = [subtract(middle, half), add(middle, half), add(values.subarray(4, 6), centre), add(values.subarray(6, 8), centre)];
      const here = points.map((point) => move(tile.matrix, turnBack(point, turns, side)));
      boxes.push({ score: logit, corners: bounds(here.slice(0, 2)), eyes: here.slice(2) });
    });
    return boxes;
  }

  /** The surest of the boxes that overlap. */
  distinct(boxes) {
    const kept = [];
    for (const box of boxes.toSorted((a, b) => b.score - a.score))
      if (kept.every((other) => overlap(box.corners, other.corners) < this.facts.same)) kept.push(box);
    return kept;
  }

  /** The mesh, twice; null where it sees no face. */
  async refine(photo, box) {
    const facts = this.facts;
    let eyes = box.eyes;
    let centre = mean(box.corners);
    let side = Math.max(...subtract(box.corners[1], box.corners[0]));
    let face = null;
    for (let k = 0; k < 2; k++) {
      if (!possible(eyes, centre, side, photo)) return null;
      const along = subtract(eyes[1], eyes[0]);
      const right = times(along, (side * facts.roi) / 2 / Math.hypot(...along));
      const roi = new Alignment(square(centre, right), facts.side);
      const data = tensor(roi.cut(photo, false).planes, (x) => x / 255);
      const [found, flag] = await this.run('mesh', { data, dims: [1, 3, facts.side, facts.side] });
      if (!(1 / (1 + Math.exp(-flag.data[0])) >= facts.confidence)) return null;
      const mesh = Array.from({ length: found.data.length / 3 }, (_, i) => found.data.subarray(3 * i, 3 * i + 3));
      const points = mesh.map((point) => move(roi.matrix, point));
      const pick = (pairs) => pairs.map((pair) => mean(pair.map((i) => points[i])));
      eyes = pick(facts.eyes);
      [centre, side] = extent(points, eyes);
      const [left, far] = facts.edges.map((i) => mesh[i]);
      const yaw = (Math.atan2(far[2] - left[2], far[0] - left[0]) * 180) / Math.PI;
      const beyond = facts.outline.filter((i) => !inside(points[i], photo)).length / facts.outline.length;
      face = { eyes, mouth: pick(facts.mouth), yaw, outside: beyond, apart: Math.hypot(...subtract(eyes[1], eyes[0])) };
    }
    return face;
  }
}

/** Planes of a picture, one after the other, each value changed. */
function tensor(planes, change) {
  const data = new Float32Array(planes.length * planes[0].length);
  planes.forEach((plane, c) => data.set(plane.map(change), c * plane.length));
  return data;
}

/** Planes of a square turned by a quarter, as np.rot90 turns. */
function turn(data, side) {
  const area = side * side;
  return data.map((_, at) => {
    const [x, y] = [at % side, Math.floor((at % area) / side)];
    return data[at - (at % area) + x * side + side - 1 - y];
  });
}

function turnBack(point, turns, side) {
  let made = point;
  for (let k = 0; k < turns; k++) made = [side - made[1], made[0]];
  return made;
}

function move([a, b, c, d, e, f], [x, y]) {
  return [a * x + b * y + c, d * x + e * y + f];
}

function bounds(points) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
}

/** Centre and longer side of the box around points that goes with the eyes. */
function extent(points, eyes) {
  const along = subtract(eyes[1], eyes[0]);
  const [c, s] = times(along, 1 / Math.max(Math.hypot(...along), 1e-9));
  const [low, high] = bounds(points.map(([x, y]) => [c * x + s * y, c * y - s * x]));
  const [u, v] = mean([low, high]);
  return [[c * u - s * v, s * u + c * v], Math.max(...subtract(high, low))];
}

function possible(eyes, centre, side, photo) {
  const apart = Math.hypot(...subtract(eyes[1], eyes[0]));
  return apart > 0 && side > 2 && side < 4 * Math.max(photo.width, photo.height) && Math.min(...centre) > 0 && inside(centre, photo);
}

function inside([x, y], { width, height }) {
  return x >= 0 && y >= 0 && x <= width && y <= height;
}

/** Intersection over union of two boxes, each [[left, top], [right, bottom]]. */
function overlap(a, b) {
  const area = ([low, high]) => Math.max(0, high[0] - low[0]) * Math.max(0, high[1] - low[1]);
  const shared = area([a[0].map((x, i) => Math.max(x, b[0][i])), a[1].map((x, i) => Math.min(x, b[1][i]))]);
  return shared / (area(a) + area(b) - shared);
}

/** Two finds of one face: their middles are closer than half of an eye distance. */
function isSame(face, other) {
  const between = Math.hypot(...subtract(mean(face.eyes), mean(other.eyes)));
  return between < 0.5 * Math.max(face.apart, other.apart);
}
