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

/** The samples: [{name, blob}]. */
export function samples() {
  return Object.entries(unload('sample')).map(([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return { name, blob: new Blob([bytes]) };
  });
}
