// The page: which photo is looked at, and what is computed next.

import { Engine } from './engine.js';
import { faster } from './faster.js';
import { Frame } from './frame.js';
import { Sliders } from './sliders.js';
import { listen, showSamples } from './sources.js';
import { Stage } from './stage.js';
import { Strip } from './strip.js';

const LABELS = { input: 'Input', naive: 'Naive inversion', plain: 'Before the edit' };

const $ = (id) => document.getElementById(id);
const model = JSON.parse($('model').textContent);
const first = new Engine(({ done, total, what }) => progress(done / total, what));
const stage = new Stage();
const strip = new Strip($('photos'), select, remove);
const frame = new Frame(refit);
const sliders = new Sliders($('sliders'), model.directions, edit);
const photos = []; // {key, name, blob, fit, state, strengths, drawn, views, errors, times, engine}
let engine = first;
let current = null;
let working = false;
let ready = false;
let opened = 0;

/** A photo comes in; the first of several is looked at. */
function open(blob, name) {
  const known = photos.find((photo) => photo.blob === blob);
  if (known) return select(known);
  fault('');
  const photo = { key: ++opened, name, blob, fit: $('fit').value, state: 'waiting' };
  photo.strengths = photo.drawn = model.directions.map(() => 0);
  const first = !photos.some((other) => other.state === 'waiting');
  photos.push(photo);
  strip.add(photo);
  if (first) select(photo);
  preview(photo);
  work();
}

/** The photo as it comes, to look at until it is inverted. */
async function preview(photo) {
  const bitmap = await createImageBitmap(photo.blob).catch(() => null); // `invert` says what is wrong
  if (!bitmap || photo.views) return;
  const side = Math.min(bitmap.width, bitmap.height);
  const corner = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  photo.preview = square();
  photo.preview.getContext('2d').drawImage(bitmap, ...corner, side, side, 0, 0, model.size, model.size);
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

function remove(photo) {
  const place = photos.indexOf(photo);
  photos.splice(place, 1);
  const next = photos[Math.min(place, photos.length - 1)] ?? null;
  strip.remove(photo, next);
  photo.engine?.call('forget', photo.key);
  if (photo === current) select(next);
}

/** Another square of a photo. fit: as picture.js takes it. */
function refit(photo, fit) {
  Object.assign(photo, { fit, state: 'waiting' });
  work();
}

function edit(strengths) {
  current.strengths = strengths;
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
  if (current?.state === 'done' && String(current.strengths) !== String(current.drawn)) return () => render(current);
  const waiting = current?.state === 'waiting' ? current : photos.find((photo) => photo.state === 'waiting');
  return waiting && (() => invert(waiting));
}

async function invert(photo) {
  try {
    const found = await reopen(photo);
    const views = { input: picture(found.input), naive: picture(found.naive), result: picture(found.result) };
    photo.plain = { naive: views.naive, result: views.result };
    Object.assign(photo, { state: 'done', views, errors: found.errors, times: found.times });
    photo.drawn = model.directions.map(() => 0);
    strip.update(photo);
    say([`${photo.name}: inverted in ${duration(found.times.invert)}`, ...found.notes].join('; '));
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

/** A canvas that holds a picture's very pixels. */
function picture(bytes) {
  const canvas = square();
  canvas.getContext('2d').putImageData(new ImageData(bytes, model.size), 0, 0);
  return canvas;
}

function square() {
  return Object.assign(document.createElement('canvas'), { width: model.size, height: model.size });
}

/** Everything that depends on the photo that is looked at. */
function show() {
  const views = current?.views;
  const against = document.querySelector('[name="against"]:checked').value;
  const left = against === 'plain' ? current?.plain?.result : views?.[against];
  const edited = Boolean(current?.drawn.some(Boolean));
  const waiting = current?.preview;
  const label = edited && against === 'naive' ? 'Naive edit' : LABELS[against];
  if (views) stage.show({ ...views, left, right: views.result }, label, edited ? 'WaGI, edited' : 'WaGI');
  else stage.show(waiting ? { input: waiting, left: waiting, right: waiting } : null, LABELS.input, 'Inverting');
  sliders.show(views ? current.strengths : null);
  $('save').disabled = $('reframe').disabled = !views;
  $('reset').disabled = !current?.strengths.some(Boolean);
  for (const cell of document.querySelectorAll('[data-time]')) {
    const time = current?.times?.[cell.dataset.time];
    cell.textContent = time === undefined ? '–' : duration(time);
  }
  for (const card of document.querySelectorAll('#cards canvas')) {
    const error = edited ? undefined : current?.errors?.[card.dataset.view];
    const [name, number] = card.parentNode.querySelector('figcaption').children;
    number.textContent = error === undefined ? '' : `L2 ${error.toFixed(4)}`;
    card.setAttribute('role', 'img');
    card.setAttribute('aria-label', name.textContent);
  }
}

async function save() {
  const { name, views } = current;
  views.result.toBlob((blob) => {
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob) });
    link.download = `${name.replace(/\.[^.]*$/, '')}-wagi.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function say(text) {
  $('status').textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($('status').textContent = ''), 6000);
}

/** A line more about what went wrong; none takes all lines away. */
function fault(text) {
  const shown = $('fault').textContent;
  $('fault').textContent = text && shown && shown !== text ? `${shown}\n${text}` : text;
  if (text) say('');
}

function progress(share, what) {
  $('progress').value = 100 * share;
  $('progress-text').textContent = what;
}

/** The files in the page: name => base64 of gzip. They leave the document. */
function unload(kind) {
  const found = {};
  for (const element of document.querySelectorAll(`script[data-${kind}]`)) {
    found[element.dataset[kind]] = element.textContent;
    element.remove();
  }
  return found;
}

function samples() {
  return Object.entries(unload('sample')).map(([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return { name, blob: new Blob([bytes]) };
  });
}

async function start() {
  const shown = samples();
  showSamples(shown, open);
  listen(open, fault);
  $('against').addEventListener('change', show);
  $('save').addEventListener('click', save);
  $('reset').addEventListener('click', () => edit(model.directions.map(() => 0)));
  $('fit').addEventListener('change', () => {
    if (current) refit(current, $('fit').value);
  });
  $('reframe').addEventListener('click', () => frame.open(current));
  $('fault').addEventListener('click', () => fault(''));
  $('theme').addEventListener('click', () => {
    const dark = getComputedStyle(document.body).colorScheme.includes('dark') && matchMedia('(prefers-color-scheme: dark)').matches;
    const style = document.documentElement.style;
    style.colorScheme = (style.colorScheme || (dark ? 'dark' : 'light')) === 'dark' ? 'light' : 'dark';
  });
  const packed = unload('file');
  if (shown.length) open(shown[0].blob, shown[0].name);
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
