// The large picture with its divider, and the lens that enlarges one place in every picture.

const WHOLE = { x: 0, y: 0, side: 1 };
const LENS = 220; // px on the screen

const $ = (id) => document.getElementById(id);

/** Draw a square part (of 1) of a picture over a whole canvas, at the screen's resolution. */
export function draw(canvas, picture, { x, y, side } = WHOLE) {
  const pixels = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  canvas.width = canvas.height = pixels;
  if (!picture) return;
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  const size = picture.width;
  context.drawImage(picture, x * size, y * size, side * size, side * size, 0, 0, pixels, pixels);
}

export class Stage {
  constructor() {
    this.box = $('stage');
    this.views = null; // {left, right, input, naive, result}: canvases
    this.lens = { on: false, x: 0.5, y: 0.5, zoom: 2 };
    $('split').addEventListener('input', () => this.divide());
    $('zoom').addEventListener('click', () => this.toggle());
    this.box.addEventListener('pointermove', (event) => this.point(event));
    this.box.addEventListener('pointerdown', (event) => this.point(event));
    this.box.addEventListener('wheel', (event) => this.turn(event), { passive: false });
    document.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Other pictures, with the names of the two that the divider parts. */
  show(views, left, right) {
    this.views = views;
    this.box.classList.toggle('empty', !views);
    $('left-tag').textContent = left;
    $('right-tag').textContent = right;
    $('split').setAttribute('aria-label', `Divider between ${left} and ${right}`);
    $('right').setAttribute('aria-label', views ? `${right}, beside it ${left}` : 'No picture yet');
    this.divide();
    this.draw();
  }

  divide() {
    const share = $('split').value;
    this.box.style.setProperty('--split', `${share}%`);
    $('split').setAttribute('aria-valuetext', `${Math.round(share)} % ${$('left-tag').textContent}`);
    this.drawLens();
  }

  draw() {
    draw($('left'), this.views?.left);
    draw($('right'), this.views?.right);
    this.drawLens();
  }

  toggle() {
    this.lens.on = !this.lens.on;
    $('zoom').setAttribute('aria-pressed', this.lens.on);
    this.box.classList.toggle('zooming', this.lens.on);
    this.drawLens();
  }

  point(event) {
    if (!this.lens.on) return;
    const box = this.box.getBoundingClientRect();
    this.move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }

  move(x, y) {
    const inside = (value) => Math.min(1, Math.max(0, value));
    Object.assign(this.lens, { x: inside(x), y: inside(y) });
    this.drawLens();
  }

  turn(event) {
    if (!this.lens.on) return;
    event.preventDefault();
    this.enlarge(event.deltaY < 0 ? 1.15 : 1 / 1.15);
  }

  enlarge(factor) {
    this.lens.zoom = Math.min(10, Math.max(1.5, this.lens.zoom * factor));
    this.drawLens();
  }

  key(event) {
    const writing = event.target.matches?.('select, dialog *, input:not(#split)');
    if (event.ctrlKey || event.metaKey || event.altKey || writing) return;
    if (event.key.toLowerCase() === 'l') return this.toggle();
    const { on, x, y } = this.lens;
    const steps = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };
    const step = steps[event.key];
    if (!on || !(step || '+-='.includes(event.key))) return;
    event.preventDefault();
    if (step) this.move(x + step[0], y + step[1]);
    else this.enlarge(event.key === '-' ? 1 / 1.25 : 1.25);
  }

  /** The lens over the stage, and the same place in the three small pictures. */
  drawLens() {
    const { on, x, y, zoom } = this.lens;
    const shown = on && this.views !== null;
    const canvas = $('lens');
    canvas.hidden = !shown;
    const side = Math.min(1, LENS / (this.box.clientWidth || 1) / zoom);
    const corner = (middle) => Math.min(1 - side, Math.max(0, middle - side / 2));
    const part = shown ? { x: corner(x), y: corner(y), side } : WHOLE;
    for (const card of document.querySelectorAll('#cards canvas'))
      draw(card, this.views?.[card.dataset.view], part);
    if (!shown) return;
    canvas.style.left = `${x * 100}%`;
    canvas.style.top = `${y * 100}%`;
    draw(canvas, this.views.right, part);
    this.drawLeft(canvas, part);
  }

  /** What lies left of the divider, over the right picture in the lens. */
  drawLeft(canvas, { x, y, side }) {
    const edge = ($('split').value / 100 - x) / side;
    if (edge <= 0) return;
    const context = canvas.getContext('2d');
    const share = Math.min(1, edge);
    const size = this.views.left.width;
    context.imageSmoothingQuality = 'high';
    context.drawImage(
      this.views.left, x * size, y * size, share * side * size, side * size, 0, 0, share * canvas.width, canvas.height,
    );
    context.fillStyle = '#fff';
    if (edge < 1) context.fillRect(share * canvas.width - 1, 0, 2, canvas.height);
  }
}
