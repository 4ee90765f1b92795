// What is computed, one after the other, and by which engine.

import { exact } from './canvases.js';
import { faster } from './faster.js';
import { Whole } from './whole.js';
import { duration, fault, nameEngine, say } from './words.js';

export class Work {
  /** first: the engine of WebAssembly. onchange() is told after each piece of work; onbusy(yes) before and behind. */
  constructor(model, first, album, onchange, onbusy) {
    Object.assign(this, { model, first, engine: first, album, onchange, onbusy, ready: false, working: false });
  }

  /** Opens the bundle; throws an Error of one line. packed: the page's files. */
  async start(packed) {
    this.first.title = await this.first.call('load', 'wasm', this.model, packed);
    this.use(this.first);
    this.ready = true;
  }

  /** What is wanted most: the edit that is looked at, then the photos that wait. */
  async run() {
    if (this.working || !this.ready) return;
    this.working = true;
    for (let job; (job = this.next()); ) {
      this.onbusy(true);
      await job();
      this.onchange();
    }
    this.onbusy(false);
    this.working = false;
  }

  next() {
    const { whole, seen, photos } = this.album;
    const other = seen.find(({ state, edit, drawn }) => state === 'done' && edit.key !== drawn.key);
    if (other) return () => this.render(other);
    const waiting = [...seen, ...photos].find(({ state }) => state === 'waiting');
    if (whole?.stale && !seen.includes(waiting)) return () => this.putBack(whole);
    return waiting && (() => this.invert(waiting));
  }

  async invert(photo) {
    try {
      const notes = photo.fit === 'face' ? await this.findFaces(photo) : [];
      const found = await this.reopen(photo);
      const views = this.pictures(found, 'input', 'naive', 'result');
      photo.plain = { naive: views.naive, result: views.result };
      Object.assign(photo, { state: 'done', views, errors: found.errors, times: { ...photo.times, ...found.times } });
      photo.drawn = this.album.unedited;
      this.album.strip.update(photo);
      say([`${photo.name}: inverted in ${duration(found.times.invert)}`, ...notes, ...found.notes].join('; '));
    } catch (error) {
      if (this.stepBack(error)) return;
      fault(error.message);
      photo.state = 'failed';
      this.album.remove(photo);
    }
  }

  /** The faces of a photo, whose first is this entry; others come behind it. What the user should know. */
  async findFaces(photo) {
    const { faces, milliseconds } = await this.first.call('find', photo.key, photo.blob, photo.name);
    photo.times.find = milliseconds;
    photo.fit = 'crop';
    if (!faces.length) return ['no face found'];
    if (!this.album.photos.includes(photo)) return [];
    await this.album.divide(photo, new Whole(photo), faces);
    return faces.flatMap(({ notes }, i) => notes.map((note) => `face ${i + 1}: ${note}`));
  }

  /** Open a photo in the engine that is used now. */
  async reopen(photo) {
    photo.engine = this.engine;
    return this.engine.call('invert', photo.key, photo.blob, photo.name, photo.fit);
  }

  async render(photo) {
    const { edit } = photo;
    try {
      if (edit.empty) photo.views = { ...photo.views, ...photo.plain };
      else {
        if (photo.engine !== this.engine) await this.reopen(photo);
        const made = await this.engine.call('edit', photo.key, edit.strengths, edit.steps);
        photo.views = { ...photo.views, ...this.pictures(made, 'naive', 'result') };
        photo.times = { ...photo.times, ...made.times };
      }
      photo.drawn = edit;
      this.album.strip.update(photo);
    } catch (error) {
      if (this.stepBack(error)) return;
      photo.drawn = edit;
      fault(`${photo.name}: ${error.message}`);
    }
  }

  pictures(made, ...names) {
    return Object.fromEntries(names.map((name) => [name, exact(made[name], this.model.size)]));
  }

  /** The faces of a photo put back into it. */
  async putBack(whole) {
    try {
      await whole.draw(this.engine);
      if (whole.done.length === whole.faces.length) say(`${whole.name}: faces put back: ${whole.done.length}`);
    } catch (error) {
      if (this.stepBack(error)) return;
      whole.drawn = whole.state;
      fault(`${whole.name}: ${error.message}`);
    }
  }

  /** True where a failure is WebGPU's, and the work can be done again by the engine before it. */
  stepBack(error) {
    if (error.usual || this.engine === this.first) return false;
    this.use(this.first, `WebGPU failed: ${error.message}.`);
    return true;
  }

  use(chosen, words = '') {
    this.engine = chosen;
    nameEngine(chosen.title, words);
  }

  /** Change to WebGPU once a photo is open to try it on, or say why not. */
  async accelerate(packed) {
    const photo = this.album.photos.find(({ state }) => state === 'done');
    if (!photo) return setTimeout(() => this.accelerate(packed), 2000);
    try {
      this.use(await faster(this.first, photo, this.model, packed));
    } catch (error) {
      this.use(this.first, `WebGPU is not used: ${error.message}.`);
    }
  }
}
