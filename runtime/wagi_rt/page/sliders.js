// A slider for each direction of the bundle.

const STEP = 0.05;
const UNMEASURED = [-3, 3]; // where a direction does not say in which range it was measured
let count = 0; // of sliders in the page

/** Sliders in a box. directions: [{name, unit?, range?, note?}]; onchange(strengths) when one is moved. */
export class Sliders {
  constructor(box, directions, onchange) {
    this.inputs = directions.map((direction) => {
      const number = count++;
      const row = box.appendChild(document.createElement('div'));
      row.className = 'slider';
      const [low, high] = direction.range ?? UNMEASURED;
      const label = row.appendChild(document.createElement('label'));
      label.textContent = direction.name.replaceAll('_', ' ');
      label.htmlFor = `direction-${number}`;
      const output = row.appendChild(document.createElement('output'));
      output.htmlFor = label.htmlFor;
      const input = row.appendChild(document.createElement('input'));
      Object.assign(input, { type: 'range', id: label.htmlFor, min: low, max: high, step: STEP, value: 0, disabled: true });
      input.dataset.direction = direction.name;
      const words = row.appendChild(document.createElement('small'));
      words.id = `unit-${number}`;
      words.textContent = [direction.unit && `1 is ${direction.unit}`, `${low} to ${high}`].filter(Boolean).join('; ');
      input.setAttribute('aria-describedby', words.id);
      input.addEventListener('input', () => {
        this.paint();
        onchange(this.strengths);
      });
      input.addEventListener('dblclick', () => {
        input.value = 0;
        input.dispatchEvent(new Event('input'));
      });
      return input;
    });
    if (!directions.length) box.textContent = 'This bundle holds no directions.';
    this.paint();
  }

  get strengths() {
    return this.inputs.map((input) => Number(input.value));
  }

  /** Set all of them without a change being told; null switches them off. */
  show(strengths) {
    this.inputs.forEach((input, i) => {
      input.value = strengths?.[i] ?? 0;
      input.disabled = !strengths;
    });
    this.paint();
  }

  paint() {
    for (const input of this.inputs) {
      const share = (value) => `${(100 * (value - input.min)) / (input.max - input.min)}%`;
      const value = Number(input.value);
      input.style.setProperty('--low', share(Math.min(0, value)));
      input.style.setProperty('--high', share(Math.max(0, value)));
      input.parentNode.querySelector('output').textContent = value > 0 ? `+${value}` : String(value).replace('-', '−');
    }
  }
}
