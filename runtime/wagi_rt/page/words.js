// What the page says about its work, and in which colours.

const $ = (id) => document.getElementById(id);

export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export function say(text) {
  $('status').textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($('status').textContent = ''), 6000);
}

/** A line more about what went wrong; none takes all lines away. */
export function fault(text) {
  const shown = $('fault').textContent;
  $('fault').textContent = text && shown && shown !== text ? `${shown}\n${text}` : text;
  if (text) say('');
}

export function progress(share, what) {
  $('progress').value = 100 * share;
  $('progress-text').textContent = what;
}

/** What everything runs on, and why not on something else. */
export function nameEngine(title, words) {
  $('engine').textContent = title;
  $('engine-words').textContent = words;
}

/** The times of a photo: {name: milliseconds}. */
export function showTimes(times) {
  for (const cell of document.querySelectorAll('[data-time]')) {
    const time = times?.[cell.dataset.time];
    cell.textContent = time === undefined ? '–' : duration(time);
  }
}

/** Names of the small pictures and how far each is from the input. errors: {view: number}. */
export function nameCards(errors) {
  for (const card of document.querySelectorAll('#cards canvas')) {
    const error = errors?.[card.dataset.view];
    const [name, number] = card.parentNode.querySelector('figcaption').children;
    number.textContent = error === undefined ? '' : `L2 ${error.toFixed(4)}`;
    card.setAttribute('role', 'img');
    card.setAttribute('aria-label', name.textContent);
  }
}

/** Dark to light and back. */
export function changeTheme() {
  const dark = getComputedStyle(document.body).colorScheme.includes('dark') && matchMedia('(prefers-color-scheme: dark)').matches;
  const style = document.documentElement.style;
  style.colorScheme = (style.colorScheme || (dark ? 'dark' : 'light')) === 'dark' ? 'light' : 'dark';
}
