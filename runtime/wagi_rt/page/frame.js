// The dialog in which a user says which square of the photo the model shall see.

import { centre } from './picture.js';

const DETAIL = 900; // px of the drawn photo's longer side
const SMALLEST = 32; // px of the photo

const $ = (id) => document.getElementById(id);

/** The upright square about a quad's middle, as far as it lies in a picture. */
function around(quad, { width, height }) {
  const [x, y] = [0, 1].map((i) => (quad[0][i] + quad[2][i]) / 2);
  const wanted = Math.hypot(quad[3][0] - quad[0][0], quad[3][1] - quad[0][1]);
  const side = Math.min(wanted, width, height);
  const [left, top] = [[x, width], [y, height]].map(([at, length]) => Math.min(length - side, Math.max(0, at - side / 2)));
  return { left, top, width: side, height: side };
}

export class Frame {
  /** onchosen(photo, box) is told the square, {left, top, width, height} in the photo's pixels. */
  constructor(onchosen) {
    this.canvas = $('photo');
    this.canvas.addEventListener('pointerdown', (event) => this.grab(event));
    this.canvas.addEventListener('pointermove', (event) => this.drag(event));
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    this.canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.scale(event.deltaY < 0 ? 1 / 1.06 : 1.06);
    }, { passive: false });
    $('side').addEventListener('input', () => this.scale($('side').value / this.side));
    $('frame-use').addEventListener('click', () => {
      $('framing').close();
      const side = Math.round(this.side);
      const left = Math.min(Math.round(this.left), this.width - side);
      const top = Math.min(Math.round(this.top), this.height - side);
      onchosen(this.photo, { left, top, width: side, height: side });
    });
    $('frame-leave').addEventListener('click', () => $('framing').close());
  }

  async open(photo) {
    const bitmap = await createImageBitmap(photo.blob);
    const { width, height } = bitmap;
    const box = photo.fit.quad ? around(photo.fit.quad, bitmap) : photo.fit.width ? photo.fit : centre(bitmap);
    Object.assign(this, { photo, width, height, left: box.left, top: box.top, side: box.width });
    const shrink = Math.min(1, DETAIL / Math.max(width, height));
    this.picture = new OffscreenCanvas(Math.ceil(width * shrink), Math.ceil(height * shrink));
    this.picture.getContext('2d').drawImage(bitmap, 0, 0, this.picture.width, this.picture.height);
    bitmap.close();
    const least = Math.min(SMALLEST, width, height);
    Object.assign($('side'), { min: least, max: Math.min(width, height), step: 1 });
    $('framing').showModal();
    this.move(0, 0);
  }

  /** Move the square by pixels of the photo, as far as there is photo. */
  move(across, down) {
    this.left = Math.min(this.width - this.side, Math.max(0, this.left + across));
    this.top = Math.min(this.height - this.side, Math.max(0, this.top + down));
    this.draw();
  }

  /** Change its size around its middle. */
  scale(factor) {
    const side = Math.min($('side').max, Math.max($('side').min, this.side * factor));
    const shift = (this.side - side) / 2;
    this.side = side;
    this.move(shift, shift);
  }

  grab(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.last = event;
  }

  drag(event) {
    if (!event.buttons || !this.last) return;
    const scale = this.width / this.canvas.clientWidth;
    this.move((event.clientX - this.last.clientX) * scale, (event.clientY - this.last.clientY) * scale);
    this.last = event;
  }

  key(event) {
    const step = this.side / 50;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const sizes = { '+': 1.06, '=': 1.06, '-': 1 / 1.06 };
    if (moves[event.key]) this.move(...moves[event.key]);
    else if (sizes[event.key]) this.scale(sizes[event.key]);
    else return;
    event.preventDefault();
  }

  draw() {
    const { width, height } = Object.assign(this.canvas, { width: this.picture.width, height: this.picture.height });
    const context = this.canvas.getContext('2d');
    const scale = width / this.width;
    const box = [this.left * scale, this.top * scale, this.side * scale, this.side * scale];
    context.drawImage(this.picture, 0, 0);
    context.fillStyle = '#000a';
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(...box);
    context.fill('evenodd');
    Object.assign(context, { strokeStyle: '#fff', lineWidth: Math.max(2, width / 250) });
    context.strokeRect(...box);
    $('side').value = this.side;
  }
}
