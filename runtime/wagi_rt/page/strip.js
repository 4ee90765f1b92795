// The strip of opened photos: one radio button each, so that arrow keys and screen readers work.

export class Strip {
  /** onselect(photo) and onremove(photo) are told what the user wants. */
  constructor(box, onselect, onremove) {
    Object.assign(this, { box, onselect, onremove });
    this.items = new Map();
  }

  /** A photo at the end, or behind another one. */
  add(photo, before = null) {
    const item = document.createElement('li');
    if (before) this.items.get(before).after(item);
    else this.box.append(item);
    const label = item.appendChild(document.createElement('label'));
    const radio = label.appendChild(document.createElement('input'));
    Object.assign(radio, { type: 'radio', name: 'photo', className: 'hidden' });
    label.appendChild(document.createElement('canvas'));
    radio.addEventListener('change', () => this.onselect(photo));
    radio.addEventListener('keydown', (event) => event.key === 'Delete' && this.onremove(photo));
    const remove = item.appendChild(document.createElement('button'));
    Object.assign(remove, { type: 'button', className: 'remove', textContent: '×' });
    remove.addEventListener('click', () => this.onremove(photo));
    this.items.set(photo, item);
    this.rename(photo);
    this.update(photo);
  }

  rename(photo) {
    const item = this.items.get(photo);
    item.querySelector('input').setAttribute('aria-label', photo.name);
    item.querySelector('label').title = photo.name;
    item.querySelector('button').setAttribute('aria-label', `Remove ${photo.name}`);
  }

  /** Show a photo's state and its latest picture. */
  update(photo) {
    const item = this.items.get(photo);
    if (!item) return;
    item.className = photo.state;
    const canvas = item.querySelector('canvas');
    const picture = photo.views?.result ?? photo.preview;
    if (!picture) return;
    canvas.width = canvas.height = picture.width;
    canvas.getContext('2d').drawImage(picture, 0, 0);
  }

  select(photo) {
    const radio = this.items.get(photo)?.querySelector('input');
    if (radio) radio.checked = true;
  }

  /** Take a photo away; the keyboard's focus goes from it to `next`. */
  remove(photo, next) {
    const item = this.items.get(photo);
    const focused = item?.contains(document.activeElement);
    item?.remove();
    this.items.delete(photo);
    if (focused) this.items.get(next)?.querySelector('input').focus();
  }
}
