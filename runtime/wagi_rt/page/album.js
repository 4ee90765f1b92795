// The opened photos, and which of them is looked at.

import { centred, contained } from './canvases.js';
import { Edit } from './edit.js';
import { Strip } from './strip.js';

export class Album {
  /** box: the strip's list. onchange() is told when something else is to be seen, or to be done. */
  constructor(box, model, onchange) {
    // {key, name, blob, fit, state, edit, drawn, views, errors, times, engine, whole?}; drawn: the edit in the views
    this.photos = [];
    this.current = null;
    this.apart = false; // a face is looked at by itself, not in its photo
    this.count = 0;
    Object.assign(this, { model, onchange, strip: new Strip(box, (photo) => this.choose(photo), (photo) => this.remove(photo)) });
  }

  /** A photo comes in; the first of several is looked at. fit: as picture.js takes it, or "face". */
  open(blob, name, fit) {
    const known = this.photos.find((photo) => photo.blob === blob);
    if (known) return this.select(known);
    const photo = this.fresh(blob, name, fit);
    const first = !this.photos.some(({ state, offered }) => state === 'waiting' && !offered);
    this.photos.push(photo);
    this.strip.add(photo);
    this.preview(photo);
    if (first) this.select(photo);
    else this.onchange();
  }

  fresh(blob, name, fit) {
    const photo = { key: ++this.count, name, blob, fit, state: 'waiting', times: {} };
    photo.edit = photo.drawn = this.unedited;
    return photo;
  }

  get unedited() {
    return new Edit(this.model.directions.map(() => 0));
  }

  /** The photo as it comes, to look at until it is inverted. */
  async preview(photo) {
    const bitmap = await createImageBitmap(photo.blob).catch(() => null); // the inversion says what is wrong
    if (!bitmap || photo.views) return;
    photo.preview = photo.fit === 'face' || photo.whole ? contained(bitmap) : centred(bitmap, this.model.size);
    bitmap.close();
    this.strip.update(photo);
    if (photo === this.current) this.onchange();
  }

  /** What is looked at where that is a whole photo. */
  get whole() {
    return this.apart ? undefined : this.current?.whole;
  }

  /** The photos that are looked at: a whole photo's faces, or one. */
  get seen() {
    return this.whole?.faces ?? (this.current ? [this.current] : []);
  }

  select(photo) {
    this.current = photo;
    this.strip.select(photo);
    this.onchange();
  }

  /** A photo of the strip; another face of the same photo is looked at by itself. */
  choose(photo) {
    this.apart ||= photo.whole !== undefined && photo.whole === this.current?.whole;
    this.select(photo);
  }

  /** Faces that were found: the first is the photo's own entry, the others stand behind it. */
  async divide(photo, whole, faces) {
    await whole.take(photo, faces, (name) => {
      const face = this.fresh(photo.blob, name, null);
      const last = whole.faces.at(-1);
      this.photos.splice(this.photos.indexOf(last) + 1, 0, face);
      this.strip.add(face, last);
      return face;
    });
    this.strip.rename(photo);
  }

  remove(photo) {
    const place = this.photos.indexOf(photo);
    this.photos.splice(place, 1);
    const next = this.photos[Math.min(place, this.photos.length - 1)] ?? null;
    this.strip.remove(photo, next);
    photo.engine?.call('forget', photo.key);
    this.leave(photo);
    if (photo === this.current) this.select(next);
    else this.onchange(); // its photo is put together without it
  }

  /** A face stays in its photo as it is there. */
  leave(photo) {
    if (!photo.whole) return;
    photo.whole.faces = photo.whole.faces.filter((face) => face !== photo);
    delete photo.whole;
  }

  /** Another square of a photo. fit: as `open` takes it; a face keeps its place in the photo. */
  refit(photo, fit) {
    const { left, top, width } = fit;
    const [right, bottom] = [left + width, top + width];
    const quad = [[left, top], [left, bottom], [right, bottom], [right, top]];
    if (photo.whole && width) Object.assign(photo, { fit: { ...photo.fit, quad }, state: 'waiting' });
    else if (!photo.whole || fit !== 'face') {
      this.leave(photo);
      Object.assign(photo, { fit, state: 'waiting' });
    }
    this.onchange();
  }

  /** Other edits of what is looked at. change(edit): what becomes of one. */
  edit(change, photos = this.seen) {
    for (const photo of photos) photo.edit = change(photo.edit);
    this.onchange();
  }
}
