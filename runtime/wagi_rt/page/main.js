// The page: what is shown of the photo that is looked at, and what its buttons do.

import { Album } from './album.js';
import { download } from './canvases.js';
import { Edit } from './edit.js';
import { Engine } from './engine.js';
import { Frame } from './frame.js';
import { samples, unload } from './packed.js';
import { Sliders } from './sliders.js';
import { listen, showSamples } from './sources.js';
import { Stage } from './stage.js';
import { Wording } from './wording.js';
import { changeTheme, fault, nameCards, progress, say, showTimes } from './words.js';
import { Work } from './work.js';

const LABELS = { input: 'Input', naive: 'Naive inversion', plain: 'Before the edit' };

const $ = (id) => document.getElementById(id);
const model = JSON.parse($('model').textContent);
const first = new Engine(({ done, total, what }) => progress(done / total, what));
const stage = new Stage();
const album = new Album($('photos'), model, change);
const work = new Work(model, first, album, show, (busy) => $('stage').classList.toggle('busy', busy));
const frame = new Frame((photo, box) => album.refit(photo, box));
const sliders = new Sliders($('sliders'), model.directions, (strengths) =>
  album.edit(({ words, strength }) => new Edit(strengths, words, strength)));
let wording = null; // where the bundle has a text model

/** Something else is looked at, or wanted. */
function change() {
  show();
  work.run();
}

function open(blob, name, fit = $('fit').value) {
  fault('');
  album.open(blob, name, fit);
}

/** Portraits of the bundle are aligned; photos are not. */
function openSample(blob, name) {
  open(blob, name, name.endsWith('.png') ? 'crop' : $('fit').value);
}

/** What is looked at is edited towards a text, as strongly as by the one before. */
async function reword(tokens, texts) {
  const photos = album.seen;
  const [text, neutral] = texts;
  const words = { text, neutral, step: await first.call('word', tokens, texts) };
  say(`${text}, against ${neutral}`);
  album.edit(({ strengths, strength }) => new Edit(strengths, words, strength || 1), photos);
}

function reset() {
  if (wording) wording.clear();
  album.edit(() => album.unedited);
}

async function save() {
  const { whole, current } = album;
  try {
    if (whole) download(await whole.put(work.engine, 'result'), whole.name);
    else download(current.views.result, current.name);
  } catch (error) {
    fault(`${(whole ?? current).name}: ${error.message}`);
  }
}

/** Everything that depends on the photo that is looked at. */
function show() {
  const { whole, current } = album;
  const views = whole ? whole.views : current?.views;
  const against = document.querySelector('[name="against"]:checked').value;
  const left = against === 'plain' ? (whole ?? current)?.plain?.result : views?.[against];
  const edited = whole ? whole.edited : Boolean(current && !current.drawn.empty);
  const waiting = whole?.input ?? current?.preview;
  const label = edited && against === 'naive' ? 'Naive edit' : LABELS[against];
  if (views) stage.show({ ...views, left, right: views.result }, label, edited ? 'WaGI, edited' : 'WaGI');
  else stage.show(waiting ? { input: waiting, left: waiting, right: waiting } : null, LABELS.input, 'Inverting');
  sliders.show(views ? current.edit.strengths : null);
  wording?.show(views ? current.edit : null);
  $('save').disabled = $('reframe').disabled = !views;
  $('reset').disabled = !current || current.edit.empty;
  $('whole').disabled = !current?.whole;
  $('whole').setAttribute('aria-pressed', Boolean(whole));
  showTimes({ ...current?.times, put: current?.whole?.time });
  nameCards(whole || edited ? {} : current?.errors);
}

/** Everything of the page that has to do with whole photos. */
function offerFaces() {
  for (const one of document.querySelectorAll('[data-faces]')) one.hidden = one.disabled = false;
  $('fit').value = 'face';
  $('fit-label').textContent = 'Use';
  $('whole').addEventListener('click', () => {
    album.apart = !album.apart;
    change();
  });
}

function offerTexts(packed) {
  wording = new Wording(model.text, packed[model.text.merges], {
    onapply: reword,
    onclear: () => album.edit(({ strengths }) => new Edit(strengths)),
    onstrength: (strength) => album.edit(({ strengths, words }) => new Edit(strengths, words, strength)),
  });
}

async function start() {
  const shown = samples();
  const packed = unload('file');
  if (model.finder) offerFaces();
  if (model.text) offerTexts(packed);
  showSamples(shown, openSample);
  listen(open, fault);
  $('against').addEventListener('change', show);
  $('save').addEventListener('click', save);
  $('reset').addEventListener('click', reset);
  $('fit').addEventListener('change', () => {
    if (album.current) album.refit(album.current, $('fit').value);
  });
  $('reframe').addEventListener('click', () => frame.open(album.current));
  $('fault').addEventListener('click', () => fault(''));
  $('theme').addEventListener('click', changeTheme);
  if (shown.length) openSample(shown[0].blob, shown[0].name);
  for (const photo of album.photos) photo.offered = true; // what a user brings meanwhile is looked at at once
  show();
  try {
    await work.start(packed);
  } catch (error) {
    progress(0, error.message);
    return fault(error.message);
  }
  $('loading').hidden = true;
  document.body.classList.add('ready');
  await work.run();
  await work.accelerate(packed);
}

start();
