// The worker: everything that takes time. It answers {id, call, args} by {id, result} or {id, fault}, one
// after the other, and says how far it is with {progress: {done, total, what}}.

import { Alignment, paste } from './alignment.js';
import { enlarge, meanSquare, walk } from './chain.js';
import { Detector } from './detection.js';
import { unpack } from './packed.js';
import { device, openRuntime } from './runtime.js';
import { decode, square, toBytes, toFloat, UserError, whole } from './picture.js';
import { offsets } from './worded.js';

let model; // the page's description of the bundle
let files; // name => bytes
let run; // runs a graph
const faces = new Map(); // key => what the edits of an opened picture start from

let opened = { key: null, pixels: null }; // the whole photo that was read last

const CALLS = { load, find, invert, word, edit, put, forget };
let last = Promise.resolve();

self.onmessage = ({ data: { id, call, args } }) => {
  last = last.then(async () => {
    try {
      const result = await CALLS[call](...args);
      postMessage({ id, result }, buffers(result));
    } catch (error) {
      const usual = error instanceof UserError;
      if (!usual) console.error(error);
      postMessage({ id, fault: String(error.message ?? error).split('\n')[0], usual });
    }
  });
};

/** The pictures in a result, which are handed over, not copied. */
function buffers(result) {
  return Object.values(result ?? {}).flatMap((value) => (value instanceof Uint8ClampedArray ? [value.buffer] : []));
}

/** Opens the bundle with one of the builds. packed: name => base64 of gzip. Returns the engine's title. */
async function load(build, description, packed) {
  const { title, threads } = await device(build);
  model = description;
  files = {};
  const names = Object.keys(packed);
  const more = { ...model.finder?.graphs, ...model.text?.graphs }; // which need no fast engine
  const graphs = build === 'wasm' ? { ...model.graphs, ...more } : model.graphs;
  const total = names.length + Object.keys(graphs).length;
  let done = 0;
  const step = (what) => postMessage({ progress: { done: done++, total, what } });
  for (const name of names) {
    step(`Unpacking ${name}`);
    files[name] = await unpack(packed[name]);
    packed[name] = '';
  }
  run = await openRuntime(build, threads, model.runtimes[build], graphs, files, step);
  return title;
}

/** A whole photo: {data: RGBA, width, height}. The last one is kept, since each of its faces asks for it. */
async function read(key, blob, name) {
  if (opened.key === key) return opened.pixels;
  const bitmap = await decode(blob, name);
  opened = { key, pixels: whole(bitmap) };
  bitmap.close();
  return opened.pixels;
}

/** The faces of a photo, the largest first: {faces: [{quad, notes}], milliseconds}. */
async function find(key, blob, name) {
  const started = performance.now();
  const { facts, graphs } = model.finder;
  const detector = new Detector(facts, async (graph, tensor) => {
    const made = await run(graph, tensor);
    return graphs[graph].outputs.map((output) => made[output]);
  });
  const faces = await detector.find(await read(key, blob, name));
  return { faces, milliseconds: performance.now() - started };
}

/** A photo with squares put back: {pixels: RGBA, width, height, milliseconds}. faces: as `paste` takes them. */
async function put(key, blob, name, faces) {
  const started = performance.now();
  const { data, width, height } = await read(key, blob, name);
  const photo = { data: new Uint8ClampedArray(data), width, height };
  paste(photo, faces, model.size);
  return { pixels: photo.data, width, height, milliseconds: performance.now() - started };
}

/** The square that the model sees. fit: as picture.js takes it, or {quad, photo}: a face, and its photo's key. */
async function fitted(blob, name, fit) {
  if (fit.quad) {
    const { planes } = new Alignment(fit.quad, model.size).cut(await read(fit.photo, blob, name));
    return { pixels: Uint8ClampedArray.from({ length: 3 * planes[0].length }, (_, i) => planes[i % 3][Math.floor(i / 3)]), notes: [] };
  }
  const bitmap = await decode(blob, name);
  const made = square(bitmap, model.size, fit);
  bitmap.close();
  return made;
}

/** A photo opened and inverted: its pictures as RGBA, errors, notes and times. */
async function invert(key, blob, name, fit) {
  const started = performance.now();
  const { pixels, notes } = await fitted(blob, name, fit);
  const image = toFloat(pixels);
  const prepared = performance.now() - started;
  const given = { image: { data: image, dims: [1, 3, model.size, model.size] } };
  const { found, milliseconds } = await timed(model.inversion, given);
  faces.set(key, { ...given, ...found });
  const naive = (found.naive ?? enlarge(found.naive_r, model.size)).data;
  const error = meanSquare(found.naive_r.data, found.image_r.data);
  if (model.far !== null && error > model.far)
    notes.push('the generator alone cannot show this picture, so edits may not look right: is the face aligned?');
  return {
    input: toBytes(image),
    naive: toBytes(naive),
    result: toBytes(found.result.data),
    errors: { naive: meanSquare(naive, image), result: meanSquare(found.result.data, image) },
    notes,
    times: { prepare: prepared, invert: milliseconds },
  };
}

/** The step from the second text to the first, of the latents' length. tokens: [2, context]; texts: their words. */
async function word(tokens, texts) {
  const { features } = await run('text', { tokens: { data: tokens, dims: [2, tokens.length / 2] } });
  const table = new Float32Array(files[model.text.table].buffer);
  const [rows, width] = model.latents;
  const step = new Float32Array(rows * width);
  step.set(offsets(features.data, table, model.text, texts), model.n_latent * width);
  return step;
}

/**
 * An opened picture with more of some attributes. strengths: [number per direction of the bundle]; steps:
 * [[step, strength]], of those that `word` makes.
 */
async function edit(key, strengths, steps) {
  const found = faces.get(key);
  const edited = { ...found, edit_ws: { data: moved(found.ws.data, strengths, steps), dims: found.ws.dims } };
  const given = Object.fromEntries(model.edit.inputs.map((name) => [name, edited[name]]));
  const { found: made, milliseconds } = await timed(model.edit, given);
  const naive = made.edit_naive ?? enlarge(made.edit_naive_r, model.size);
  return { result: toBytes(made.result.data), naive: toBytes(naive.data), times: { edit: milliseconds } };
}

/** Latents [n_latent, D] and the steps of all directions, in single precision as the runtime adds them. */
function moved(ws, strengths, steps) {
  const total = new Float32Array(ws.length);
  const vectors = strengths.map((strength, i) => [new Float32Array(files[model.directions[i].file].buffer), strength]);
  for (const [vector, strength] of [...vectors, ...steps]) {
    const step = vector.map((x) => x * Math.fround(strength));
    for (let k = 0; k < total.length; k++) total[k] += step[k % step.length];
  }
  return ws.map((x, k) => x + total[k]);
}

/** A chain's results, which must be numbers, and the time that they took. */
async function timed(chain, tensors) {
  const started = performance.now();
  const found = await walk(chain, tensors, run, model.resolution);
  if (!found.result.data.every(Number.isFinite))
    throw new UserError('the model produced values that are not numbers; use an fp32 bundle');
  return { found, milliseconds: performance.now() - started };
}

function forget(key) {
  faces.delete(key);
}
