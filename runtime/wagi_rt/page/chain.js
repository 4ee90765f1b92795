// The arithmetic between graphs, as wagi_rt.chain.GLUE has it, and the walk over a chain. The chains
// themselves, which graph follows which, come from there as data. A tensor is {data: Float32Array, dims}.

const FADE_CHANGE = 0.01; // as wagi_rt.chain
const FADE_SHARE = 16;

/** The function of each step that is no graph: (tensors of the step, resolution) => its output. */
export const GLUE = {
  shrink: areaResize,
  shrink_pil: antialiased,
  low_fidelity: (naive, size) => areaResize(valid(naive), size),
  sample: (naive, size) => areaResize(middles(valid(naive), size), size),
  subtract: (image, naive) => map(image, (x, i) => x - naive.data[i]),
  fade,
};

/** The results of a chain. tensors: its inputs by name; run(graph, inputs): its outputs by name. */
export async function walk(chain, tensors, run, resolution) {
  const known = { ...tensors };
  for (const step of chain.steps) {
    const given = Object.fromEntries(Object.entries(step.reads).map(([own, name]) => [own, known[name]]));
    const glue = GLUE[step.name];
    const made = glue
      ? { [Object.keys(step.makes)[0]]: glue(...Object.values(given), resolution) }
      : await run(step.name, given);
    for (const [own, name] of Object.entries(step.makes)) known[name] = made[own];
  }
  return Object.fromEntries(chain.outputs.map((name) => [name, known[name]]));
}

/** Mean squared error of two arrays. */
export function meanSquare(x, y) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (x[i] - y[i]) ** 2;
  return sum / x.length;
}

function map(tensor, change) {
  return { data: tensor.data.map(change), dims: tensor.dims };
}

function valid(naive) {
  return map(naive, (x) => Math.min(1, Math.max(-1, x)));
}

/** An early naive image at full size, in blocks of equal pixels. */
export function enlarge({ data, dims }, size) {
  const factor = size / dims[3];
  const made = new Float32Array(dims[0] * dims[1] * size * size);
  for (let i = 0; i < made.length; i++) {
    const [line, x] = [Math.floor(i / size), i % size];
    const [plane, y] = [Math.floor(line / size), line % size];
    made[i] = data[(plane * dims[2] + Math.floor(y / factor)) * dims[3] + Math.floor(x / factor)];
  }
  return { data: made, dims: [dims[0], dims[1], size, size] };
}

/** Mean over square blocks, halving until the side is `size`. */
function areaResize(tensor, size) {
  let { data, dims } = tensor;
  for (let side = dims[3]; side > size; side /= 2) {
    const half = side / 2;
    const planes = dims[0] * dims[1];
    const made = new Float32Array(planes * half * half);
    for (let p = 0, at = 0; p < planes; p++)
      for (let y = 0; y < half; y++)
        for (let x = 0; x < half; x++) {
          const i = (p * side + 2 * y) * side + 2 * x;
          const top = Math.fround(data[i] + data[i + 1]);
          const bottom = Math.fround(data[i + side] + data[i + side + 1]);
          made[at++] = Math.fround(top + bottom) * 0.25;
        }
    data = made;
    dims = [dims[0], dims[1], half, half];
  }
  return { data, dims };
}

/** The middle 2x2 pixels of every block that becomes one of size x size: HFGI's samples are their means. */
function middles({ data, dims }, size) {
  const [side, wide] = [dims[3], 2 * size];
  const factor = side / size;
  if (factor <= 2) return { data, dims };
  const near = (i) => (i >> 1) * factor + factor / 2 - 1 + (i & 1);
  const made = new Float32Array(dims[0] * dims[1] * wide * wide);
  for (let i = 0; i < made.length; i++) {
    const [line, x] = [Math.floor(i / wide), i % wide];
    made[i] = data[(Math.floor(line / wide) * side + near(line % wide)) * side + near(x)];
  }
  return { data: made, dims: [dims[0], dims[1], wide, wide] };
}

/** As Pillow's bilinear filter makes an image smaller, without its rounding to 8 bit. */
function antialiased({ data, dims }, size) {
  const side = dims[3];
  const factor = side / size;
  if (factor === 1) return { data, dims };
  const rows = Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * factor;
    const taps = [];
    for (let k = Math.max(0, centre - factor); k < Math.min(side, centre + factor); k++)
      taps.push([k, 1 - Math.abs(k + 0.5 - centre) / factor]);
    const total = taps.reduce((sum, [, weight]) => sum + weight, 0);
    return taps.map(([k, weight]) => [k, weight / total]);
  });
  const planes = dims[0] * dims[1];
  const half = new Float32Array(planes * size * side);
  for (let p = 0, at = 0; p < planes; p++)
    for (let y = 0; y < size; y++)
      for (let x = 0; x < side; x++)
        half[at++] = rows[y].reduce((sum, [k, weight]) => sum + weight * data[(p * side + k) * side + x], 0);
  const made = new Float32Array(planes * size * size);
  for (let line = 0, at = 0; line < planes * size; line++)
    for (let x = 0; x < size; x++)
      made[at++] = rows[x].reduce((sum, [k, weight]) => sum + weight * half[line * side + k], 0);
  return { data: made, dims: [dims[0], dims[1], size, size] };
}

/** The residual [1, 3, size, size], trusted the less the more an edit changes the naive image around it. */
function fade(residual, before, after, size) {
  const side = Math.floor(size / FADE_SHARE) | 1;
  const area = size * size;
  const change = new Float32Array(area).map((_, i) => {
    const squares = [0, area, 2 * area].map((c) => (after.data[c + i] - before.data[c + i]) ** 2);
    return (squares[0] + squares[1] + squares[2]) / 3;
  });
  const sums = windowSums(change, size, side);
  const counts = windowSums(new Float32Array(area).fill(1), size, side);
  return map(residual, (x, i) => x / (1 + sums[i % area] / counts[i % area] / FADE_CHANGE));
}

/** The sum over the part of each side x side window that lies inside the plane. */
function windowSums(plane, size, side) {
  const reach = side >> 1;
  const along = (source, step, other) => {
    const made = new Float32Array(source.length);
    for (let line = 0; line < size; line++)
      for (let i = 0; i < size; i++) {
        let sum = 0;
        for (let k = Math.max(0, i - reach); k <= Math.min(size - 1, i + reach); k++)
          sum += source[line * other + k * step];
        made[line * other + i * step] = sum;
      }
    return made;
  };
  return along(along(plane, size, 1), 1, size);
}
