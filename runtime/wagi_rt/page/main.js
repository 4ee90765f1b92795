// The page: which photo is looked at, and what is computed next.

import { centred, contained, download, exact } from './canvases.js';
import { Engine } from './engine.js';
import { faster } from './faster.js';
import { Frame } from './frame.js';
import { samples, unload } from './packed.js';
import { Sliders } from './sliders.js';
import { listen, showSamples } from './sources.js';
import { Stage } from './stage.js';
import { Strip } from './strip.js';
import { Whole } from './whole.js';
import { changeTheme, duration, fault, nameCards, progress, say, showTimes } from './words.js';

const LABELS = { input: 'Input', naive: 'Naive inversion', plain: 'Before the edit' };

const $ = (id) => document.getElementById(id);
const model = JSON.parse($('model').textContent);
const first = new Engine(({ done, total, what }) => progress(done / total, what));
const stage = new Stage();
const strip = new Strip($('photos'), choose, remove);
const frame = new Frame(refit);
const sliders = new Sliders($('sliders'), model.directions, edit);
const photos = []; // {key, name, blob, fit, state, strengths, drawn, views, errors, times, engine, whole?}
let engine = first;
let current = null;
let working = false;
let ready = false;
let opened = 0;
let apart = false; // a face is looked at by itself, not in its photo

/** A photo comes in; the first of several is looked at. fit: as picture.js takes it, or "face". */
function open(blob, name, fit = $('fit').value) {
  const known = photos.find((photo) => photo.blob === blob);
  if (known) return select(known);
  fault('');
  const photo = fresh(blob, name, fit);
  const first = !photos.some(({ state, offered }) => state === 'waiting' && !offered);
  photos.push(photo);
  strip.add(photo);
  if (first) select(photo);
  preview(photo);
  work();
}

function fresh(blob, name, fit) {
  const photo = { key: ++opened, name, blob, fit, state: 'waiting', times: {} };
  photo.strengths = photo.drawn = model.directions.map(() => 0);
  return photo;
}

/** The photo as it comes, to look at until it is inverted. */
async function preview(photo) {
  const bitmap = await createImageBitmap(photo.blob).catch(() => null); // `invert` says what is wrong
  if (!bitmap || photo.views) return;
  photo.preview = photo.fit === 'face' || photo.whole ? contained(bitmap) : centred(bitmap, model.size);
  bitmap.close();
  strip.update(photo);
  if (photo === current) show();
}

function select(photo) {
  current = photo;
  strip.select(photo);
  show();
  work();
}

/** A photo of the strip; another face of the same photo is looked at by itself. */
function choose(photo) {
  apart ||= photo.whole !== undefined && photo.whole === current?.whole;
  select(photo);
}

/** What is looked at where that is a whole photo. */
function whole() {
  return apart ? undefined : current?.whole;
}

function remove(photo) {
  const place = photos.indexOf(photo);
  photos.splice(place, 1);
  const next = photos[Math.min(place, photos.length - 1)] ?? null;
  strip.remove(photo, next);
  photo.engine?.call('forget', photo.key);
  leave(photo);
  if (photo === current) select(next);
  else work(); // its photo is put together without it
}

/** A face stays in its photo as it is there. */
function leave(photo) {
  if (!photo.whole) return;
  photo.whole.faces = photo.whole.faces.filter((face) => face !== photo);
  delete photo.whole;
}

/** Another square of a photo. fit: as `open` takes it; a face keeps its place in the photo. */
function refit(photo, fit) {
  const { left, top, width } = fit;
  const [right, bottom] = [left + width, top + width];
  const quad = [[left, top], [left, bottom], [right, bottom], [right, top]];
  if (photo.whole && width) Object.assign(photo, { fit: { ...photo.fit, quad }, state: 'waiting' });
  else if (!photo.whole || fit !== 'face') {
    leave(photo);
    Object.assign(photo, { fit, state: 'waiting' });
  }
  work();
}

function edit(strengths) {
  for (const photo of whole()?.faces ?? [current]) photo.strengths = strengths;
  work();
}

/** What is wanted most, one after the other: the edit that is looked at, then the photos that wait. */
async function work() {
  if (working || !ready) return;
  working = true;
  for (let job; (job = next()); ) {
    $('stage').classList.add('busy');
    await job();
    show();
  }
  $('stage').classList.remove('busy');
  working = false;
}

function next() {
  const seen = whole();
  const own = seen ? seen.faces : current ? [current] : [];
  const other = own.find(({ state, strengths, drawn }) => state === 'done' && String(strengths) !== String(drawn));
  if (other) return () => render(other);
  const waiting = [...own, ...photos].find(({ state }) => state === 'waiting');
  if (seen?.stale && !own.includes(waiting)) return () => putBack(seen);
  return waiting && (() => invert(waiting));
}

/** The faces of a photo, whose first is this entry; others come behind it. What the user should know. */
async function findFaces(photo) {
  const { faces, milliseconds } = await first.call('find', photo.key, photo.blob, photo.name);
  photo.times.find = milliseconds;
  photo.fit = 'crop';
  if (!faces.length) return ['no face found'];
  if (!photos.includes(photo)) return [];
  await new Whole(photo).take(photo, faces, (name) => {
    const face = fresh(photo.blob, name, null);
    const last = photo.whole.faces.at(-1);
    photos.splice(photos.indexOf(last) + 1, 0, face);
    strip.add(face, last);
    return face;
  });
  strip.rename(photo);
  return faces.flatMap(({ notes }, i) => notes.map((note) => `face ${i + 1}: ${note}`));
}

/** The faces of a photo put back into it. */
async function putBack(seen) {
  try {
    await seen.draw(engine);
    if (seen.done.length === seen.faces.length) say(`${seen.name}: faces put back: ${seen.done.length}`);
  } catch (error) {
    if (stepBack(error)) return;
    seen.drawn = seen.state;
    fault(`${seen.name}: ${error.message}`);
  }
}

async function save() {
  const seen = whole();
  try {
    if (seen) download(await seen.put(engine, 'result'), seen.name);
    else download(current.views.result, current.name);
  } catch (error) {
    fault(`${seen.name}: ${error.message}`);
  }
}

async function invert(photo) {
  try {
    const notes = photo.fit === 'face' ? await findFaces(photo) : [];
    const found = await reopen(photo);
    const views = { input: picture(found.input), naive: picture(found.naive), result: picture(found.result) };
    photo.plain = { naive: views.naive, result: views.result };
    Object.assign(photo, { state: 'done', views, errors: found.errors, times: { ...photo.times, ...found.times } });
    photo.drawn = model.directions.map(() => 0);
    strip.update(photo);
    say([`${photo.name}: inverted in ${duration(found.times.invert)}`, ...notes, ...found.notes].join('; '));
  } catch (error) {
    if (stepBack(error)) return;
    fault(error.message);
    photo.state = 'failed';
    remove(photo);
  }
}

/** Open a photo in the engine that is used now. */
async function reopen(photo) {
  photo.engine = engine;
  return engine.call('invert', photo.key, photo.blob, photo.name, photo.fit);
}

/** True where a failure is WebGPU's, and the work can be done again by the engine before it. */
function stepBack(error) {
  if (error.usual || engine === first) return false;
  use(first, `WebGPU failed: ${error.message}.`);
  return true;
}

function use(chosen, words = '') {
  engine = chosen;
  $('engine').textContent = chosen.title;
  $('engine-words').textContent = words;
}

async function render(photo) {
  const { strengths } = photo;
  try {
    if (strengths.some(Boolean)) {
      if (photo.engine !== engine) await reopen(photo);
      const made = await engine.call('edit', photo.key, strengths);
      photo.views = { ...photo.views, naive: picture(made.naive), result: picture(made.result) };
      photo.times = { ...photo.times, ...made.times };
    } else {
      photo.views = { ...photo.views, ...photo.plain };
    }
    photo.drawn = strengths;
    strip.update(photo);
  } catch (error) {
    if (stepBack(error)) return;
    photo.drawn = strengths;
    fault(`${photo.name}: ${error.message}`);
  }
}

const picture = (bytes) => exact(bytes, model.size);

/** Everything that depends on the photo that is looked at. */
function show() {
  const seen = whole();
  const views = seen ? seen.views : current?.views;
  const against = document.querySelector('[name="against"]:checked').value;
  const left = against === 'plain' ? (seen ?? current)?.plain?.result : views?.[against];
  const edited = seen ? seen.edited : Boolean(current?.drawn.some(Boolean));
  const waiting = seen?.input ?? current?.preview;
  const label = edited && against === 'naive' ? 'Naive edit' : LABELS[against];
  if (views) stage.show({ ...views, left, right: views.result }, label, edited ? 'WaGI, edited' : 'WaGI');
  else stage.show(waiting ? { input: waiting, left: waiting, right: waiting } : null, LABELS.input, 'Inverting');
  sliders.show(views ? current.strengths : null);
  $('save').disabled = $('reframe').disabled = !views;
  $('reset').disabled = !current?.strengths.some(Boolean);
  $('whole').disabled = !current?.whole;
  $('whole').setAttribute('aria-pressed', Boolean(seen));
  showTimes({ ...current?.times, put: current?.whole?.time });
  nameCards(seen || edited ? {} : current?.errors);
}

/** Portraits of the bundle are aligned; photos are not. */
function openSample(blob, name) {
  open(blob, name, name.endsWith('.png') ? 'crop' : $('fit').value);
}

/** Everything of the page that has to do with whole photos. */
function offerFaces() {
  for (const one of document.querySelectorAll('[data-faces]')) one.hidden = one.disabled = false;
  $('fit').value = 'face';
  $('fit-label').textContent = 'Use';
  $('whole').addEventListener('click', () => {
    apart = !apart;
    show();
    work();
  });
}

async function start() {
  const shown = samples();
  if (model.finder) offerFaces();
  showSamples(shown, openSample);
  listen(open, fault);
  $('against').addEventListener('change', show);
  $('save').addEventListener('click', save);
  $('reset').addEventListener('click', () => edit(model.directions.map(() => 0)));
  $('fit').addEventListener('change', () => {
    if (current) refit(current, $('fit').value);
  });
  $('reframe').addEventListener('click', () => frame.open(current));
  $('fault').addEventListener('click', () => fault(''));
  $('theme').addEventListener('click', changeTheme);
  const packed = unload('file');
  if (shown.length) openSample(shown[0].blob, shown[0].name);
  for (const photo of photos) photo.offered = true; // what a user brings meanwhile is looked at at once
  show();
  try {
    first.title = await first.call('load', 'wasm', model, packed);
    use(first);
  } catch (error) {
    progress(0, error.message);
    return fault(error.message);
  }
  $('loading').hidden = true;
  document.body.classList.add('ready');
  ready = true;
  await work();
  await accelerate(packed);
}

/** Change to WebGPU once a photo is open to try it on, or say why not. */
async function accelerate(packed) {
  const photo = photos.find(({ state }) => state === 'done');
  if (!photo) return setTimeout(accelerate, 2000, packed);
  try {
    use(await faster(first, photo, model, packed));
  } catch (error) {
    use(first, `WebGPU is not used: ${error.message}.`);
  }
}

start();
