// Canvases that hold pictures.

const MOST = 2048; // px of a whole photo's longer side where it is looked at

export function blank(width, height = width) {
  return Object.assign(document.createElement('canvas'), { width, height });
}

/** A canvas that holds a picture's very pixels. bytes: RGBA. */
export function exact(bytes, width, height = width) {
  const canvas = blank(width, height);
  canvas.getContext('2d').putImageData(new ImageData(bytes, width), 0, 0);
  return canvas;
}

/** The RGBA bytes of a canvas. */
export function bytes(canvas) {
  return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
}

/** The centre of a picture in a square of `size` px. */
export function centred(picture, size) {
  const side = Math.min(picture.width, picture.height);
  const canvas = blank(size);
  const [left, top] = [(picture.width - side) / 2, (picture.height - side) / 2];
  canvas.getContext('2d').drawImage(picture, left, top, side, side, 0, 0, size, size);
  return canvas;
}

/** The whole of a picture in the middle of a square. */
export function contained(picture) {
  const longest = Math.max(picture.width, picture.height);
  const canvas = blank(Math.min(MOST, longest));
  const scale = canvas.width / longest;
  const [width, height] = [picture.width * scale, picture.height * scale];
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  return canvas;
}

/** A picture as a PNG file in the user's downloads. */
export function download(canvas, name) {
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob) });
    link.download = `${name.replace(/\.\w+(?=(, face \d+)?$)/, '')}-wagi.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}
