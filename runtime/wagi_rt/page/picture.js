// Photos in and squares out, as wagi_rt.decoding and wagi_rt.pictures do it; the browser decodes.

import { even, resize } from './resize.js';

const MOST_PIXELS = 178956970; // as the runtime refuses by default
const HEIC = ['heic', 'heix', 'hevc', 'heim', 'mif1', 'msf1'];

/** A fault that a user is meant to read. */
export class UserError extends Error {}

/** The upright picture of a file as an ImageBitmap; UserError with its name for what is none. */
export async function decode(blob, name) {
  const start = new Uint8Array(await blob.slice(0, 12).arrayBuffer());
  const kind = String.fromCharCode(...start.slice(4));
  if (!start.length) throw new UserError(`${name}: the file is empty; choose another one`);
  if (kind.startsWith('ftyp') && HEIC.includes(kind.slice(4)))
    throw new UserError(`${name}: HEIC photos are not read; convert it to JPEG`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob); // turned as EXIF says, in sRGB
  } catch {
    throw new UserError(`${name}: not a picture that this browser reads; convert it to PNG or JPEG`);
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS)
    throw new UserError(`${name}: too many pixels to be a photo; shrink it first`);
  return bitmap;
}

/**
 * The square that the model sees: {pixels: Uint8ClampedArray [size, size, 3], notes}.
 *
 * fit: "crop" takes the largest centred square, "pad" adds white bars, "stretch" ignores the aspect; or the
 * box {left, top, width, height} that a user chose.
 */
export function square(bitmap, size, fit) {
  const { width, height } = bitmap;
  const done = { crop: 'its centre is used', pad: 'padded with white', stretch: 'stretched' }[fit];
  const notes = width === height || !done ? [] : [`not square, ${done}`];
  if (fit === 'pad' && width !== height) return { pixels: padded(bitmap, size), notes };
  const whole = { left: 0, top: 0, width, height };
  const box = { crop: centre(bitmap), pad: whole, stretch: whole }[fit] ?? fit;
  return { pixels: resize(box, { width: size, height: size }, reader(bitmap, box)), notes };
}

/** The largest centred square of a picture. */
export function centre({ width, height }) {
  const side = Math.min(width, height);
  return { left: (width - side) >> 1, top: (height - side) >> 1, width: side, height: side };
}

/** The whole picture in the middle of a white square. */
function padded(bitmap, size) {
  const longest = Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) =>
    Math.max(1, even((side * size) / longest)),
  );
  const whole = { left: 0, top: 0, width: bitmap.width, height: bitmap.height };
  const small = resize(whole, { width, height }, reader(bitmap, whole));
  const pixels = new Uint8ClampedArray(size * size * 3).fill(255);
  const left = (size - width) >> 1;
  const top = (size - height) >> 1;
  for (let y = 0; y < height; y++)
    pixels.set(small.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * size + left) * 3);
  return pixels;
}

/** A function that reads rows of a box of a picture, laid on white: (y, count) => RGBA. */
function reader(bitmap, { left, top, width }) {
  return (y, count) => {
    const canvas = new OffscreenCanvas(width, count);
    const context = canvas.getContext('2d', { willReadFrequently: true, colorSpace: 'srgb' });
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, left, top + y, width, count, 0, 0, width, count);
    return context.getImageData(0, 0, width, count).data;
  };
}

/** A whole picture, laid on white: {data: RGBA bytes, width, height}. */
export function whole(bitmap) {
  const { width, height } = bitmap;
  return { data: reader(bitmap, { left: 0, top: 0, width })(0, height), width, height };
}

/** 0..255 to -1..1: [size, size, 3] bytes as Float32Array [3, size, size]. */
export function toFloat(pixels) {
  const count = pixels.length / 3;
  const scale = Math.fround(1 / 127.5);
  const planes = new Float32Array(pixels.length);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < 3; c++) planes[c * count + i] = Math.fround(pixels[i * 3 + c] * scale) - 1;
  return planes;
}

/** -1..1 to 0..255, clipped and rounded by the array itself: [3, size, size] floats as RGBA bytes. */
export function toBytes(planes) {
  const count = planes.length / 3;
  const bytes = new Uint8ClampedArray(count * 4).fill(255);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < count; i++)
      bytes[i * 4 + c] = Math.fround(Math.fround(planes[c * count + i] + 1) * 127.5);
  return bytes;
}
