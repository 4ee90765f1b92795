// The files that the page carries.

/** The files in the page: name => base64 of gzip. They leave the document. */
export function unload(kind) {
  const found = {};
  for (const element of document.querySelectorAll(`script[data-${kind}]`)) {
    found[element.dataset[kind]] = element.textContent;
    element.remove();
  }
  return found;
}

/** A file of `unload`. text: base64 of gzip. */
export async function unpack(text) {
  const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The samples: [{name, blob}]. */
export function samples() {
  return Object.entries(unload('sample')).map(([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return { name, blob: new Blob([bytes]) };
  });
}
