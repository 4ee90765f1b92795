// The fields for an edit in words: towards one text, from another.

import { unpack } from './packed.js';
import { Sliders } from './sliders.js';
import { reader } from './texts.js';
import { say } from './words.js';

const RANGE = [-2, 2]; // of the strength
const EXAMPLE = 'a smiling face';

const $ = (id) => document.getElementById(id);

export class Wording {
  /**
   * facts: the page's about the text model; merges: its packed list, where it reads byte pairs.
   * onapply(tokens, texts): a promise; onclear(); onstrength(number).
   */
  constructor(facts, merges, { onapply, onclear, onstrength }) {
    Object.assign(this, { facts, merges, onapply, onclear, ready: false, words: null });
    this.fields = [$('text'), $('neutral')];
    $('neutral').placeholder = facts.neutral;
    if (EXAMPLE.split(' ').every((word) => facts.words?.includes(word) ?? true)) $('text').placeholder = EXAMPLE;
    const strength = { name: 'strength', unit: 'a usual step, below 0 leads away', range: RANGE };
    this.strength = new Sliders($('wording-strength'), [strength], ([value]) => onstrength(value));
    this.listWords();
    for (const field of this.fields) field.addEventListener('input', () => this.fail(''));
    $('wording-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.apply();
    });
    $('wording-clear').addEventListener('click', () => {
      this.clear();
      $('text').focus();
    });
    $('wording').hidden = false;
  }

  listWords() {
    const { name, words } = this.facts;
    const list = $('wording-known');
    list.hidden = !words;
    list.querySelector('summary').textContent = `The ${words?.length} words that ${name} knows`;
    list.querySelector('p').textContent = words?.join(', ');
  }

  /** The texts as they are typed; a neutral one that is left out is the runtime's. */
  get texts() {
    const [text, neutral] = this.fields.map((field) => field.value.trim());
    return [text, neutral || this.facts.neutral];
  }

  async apply() {
    const { texts } = this;
    if (!texts[0]) return this.clear();
    this.read ??= reader(this.facts, this.merges && (await lines(this.merges)));
    const tokens = [];
    for (const [i, text] of texts.entries())
      try {
        tokens.push(...this.read(text));
      } catch (error) {
        return this.fail(error.message, error.listed, this.fields[i]);
      }
    this.fail('');
    await this.onapply(Float32Array.from(tokens), texts).catch((error) => this.fail(error.message));
  }

  /** One line about what is wrong, by the field in which it is; none takes it away. */
  fail(text, listed = false, wrong = null) {
    $('wording-fault').textContent = text;
    if (text) say('');
    for (const field of this.fields) field.setAttribute('aria-invalid', field === wrong);
    if (listed) $('wording-known').open = true;
    wrong?.focus();
    this.paint();
  }

  clear() {
    for (const field of this.fields) field.value = '';
    this.fail('');
    this.onclear();
  }

  /** The edit of the photo that is looked at, null where there is none yet. What is typed stays for the next photo. */
  show(edit) {
    const words = edit?.words ?? null;
    if (words && words !== this.words) {
      $('text').value = words.text;
      $('neutral').value = words.neutral === this.facts.neutral ? '' : words.neutral;
      this.fail('');
    }
    Object.assign(this, { words, ready: edit !== null });
    this.strength.show(words ? [edit.strength] : null);
    this.paint();
  }

  /** The button stands out where what is typed is not what the picture shows. */
  paint() {
    const [text, neutral] = this.texts;
    const applied = this.words?.text === text && this.words.neutral === neutral;
    $('wording-use').disabled = !this.ready || (!text && !this.words);
    $('wording-use').classList.toggle('primary', Boolean(text) && !applied);
    $('wording-clear').disabled = !this.words && !this.fields.some((field) => field.value);
  }
}

async function lines(packed) {
  return new TextDecoder().decode(await unpack(packed)).split('\n');
}
