// A whole photo and its faces, each of which is a photo of the strip that is put back into it.

import { bytes, contained, exact } from './canvases.js';

export class Whole {
  /** photo: {key, blob, name}. */
  constructor({ key, blob, name }) {
    Object.assign(this, { key, blob, name, faces: [], views: null, plain: null, drawn: null });
  }

  /** Its faces: the first is `photo` itself, the others come from more(name). found: [{quad}], the largest first. */
  async take(photo, found, more) {
    this.input = contained(await createImageBitmap(this.blob));
    found.forEach(({ quad }, i) => {
      const name = found.length > 1 ? `${this.name}, face ${i + 1}` : this.name;
      const face = i ? more(name) : Object.assign(photo, { name });
      Object.assign(face, { fit: { quad, photo: this.key }, whole: this, times: { ...photo.times } });
      this.faces.push(face);
    });
  }

  /** The faces that are inverted. */
  get done() {
    return this.faces.filter((face) => face.state === 'done');
  }

  get edited() {
    return this.done.some((face) => !face.drawn.empty);
  }

  /** True where the pictures are not those of the faces as they are now. */
  get stale() {
    return this.done.length > 0 && this.drawn !== this.state;
  }

  get state() {
    return JSON.stringify(this.done.map(({ key, fit, drawn }) => [key, fit, drawn.key]));
  }

  /**
   * The photo with one picture of each face put back, a canvas of its size. view: "naive" or "result".
   *
   * Of an edit, its difference from the inversion is added; an inversion replaces what is there.
   */
  async put(engine, view, edited = this.edited) {
    const faces = this.done.map(({ fit, plain, views }) => ({
      quad: fit.quad,
      after: bytes(edited ? views[view] : plain[view]),
      before: edited && bytes(plain[view]),
    }));
    const made = await engine.call('put', this.key, this.blob, this.name, faces);
    this.time = made.milliseconds;
    return exact(made.pixels, made.width, made.height);
  }

  /** Make all its pictures anew. */
  async draw(engine) {
    const { state, edited } = this;
    const places = JSON.stringify(this.done.map(({ key, fit }) => [key, fit]));
    if (places !== this.places) Object.assign(this, { places, plain: null });
    const made = {};
    for (const view of ['naive', 'result']) made[view] = contained(await this.put(engine, view));
    if (!edited) this.plain = made;
    else if (!this.plain) this.plain = { result: contained(await this.put(engine, 'result', false)) };
    this.views = { input: this.input, ...made };
    this.drawn = state;
  }
}
