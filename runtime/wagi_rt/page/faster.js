// WebGPU in a worker of its own, taken only where it proves right and fast on a photo that is open already.

import { Engine } from './engine.js';

const LEAST_PSNR = 45; // dB between the two results in 8 bit, whose rounding alone gives 51
const GAIN = 0.9; // it must take less than this share of the time
const PATIENCE = 120000; // ms, after which it is given up

/**
 * The engine with WebGPU, which has the photo open. slow: the one that works.
 *
 * Throws an Error that says why it is not used. The page stays usable meanwhile.
 */
export async function faster(slow, photo, model, packed) {
  const engine = new Engine(() => {});
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('it does not answer')), PATIENCE));
  try {
    engine.title = await Promise.race([engine.call('load', 'webgpu', model, packed), late]);
    const invert = (which) => which.call('invert', photo.key, photo.blob, photo.name, photo.fit);
    await Promise.race([invert(engine), late]); // compiles its shaders
    const [found, wanted] = [await Promise.race([invert(engine), late]), await invert(slow)];
    const decibels = psnr(found.result, wanted.result);
    if (!(decibels >= LEAST_PSNR)) throw new Error(`its pictures differ (${decibels.toFixed(0)} dB)`);
    if (found.times.invert > GAIN * wanted.times.invert) throw new Error('it is not faster here');
    return engine;
  } catch (error) {
    engine.stop();
    throw error;
  }
}

/** Peak signal-to-noise ratio of two arrays of bytes. */
function psnr(x, y) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (x[i] - y[i]) ** 2;
  return 10 * Math.log10(255 ** 2 / (sum / x.length));
}
