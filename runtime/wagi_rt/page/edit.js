// What a photo is edited by.

export class Edit {
  /**
   * strengths: one for each direction of the bundle. words: null, or what a text was found to mean, {text,
   * neutral, step: Float32Array of the latents' length}; strength: how far along its step.
   */
  constructor(strengths, words = null, strength = 1) {
    Object.assign(this, { strengths, words, strength });
  }

  /** True where it changes nothing. */
  get empty() {
    return !this.strengths.some(Boolean) && !(this.words && this.strength);
  }

  /** Equal for edits that are equal. */
  get key() {
    const { text, neutral } = this.words ?? {};
    return JSON.stringify([this.strengths, text, neutral, this.strength]);
  }

  /** The text's step at its strength, as the worker adds it to those of the directions: [[step, strength]]. */
  get steps() {
    return this.words ? [[this.words.step, this.strength]] : [];
  }
}
