// The ways in which pictures come: chosen, dropped, pasted, from the camera, from the samples.

const $ = (id) => document.getElementById(id);

/** Hands every picture that comes to open(blob, name); fault(text) says what did not come. */
export function listen(open, fault) {
  const openAll = (files) => [...files].forEach((file) => open(file, file.name || 'pasted'));
  $('choose').addEventListener('change', ({ target }) => {
    openAll(target.files);
    target.value = '';
  });
  document.addEventListener('paste', (event) => {
    const files = event.clipboardData?.files ?? [];
    if (files.length) openAll(files);
    else if (!event.target.matches?.('[type=text]')) fault('There is no picture in the clipboard; copy one, or choose a file');
  });
  listenToDrops(openAll, fault);
  listenToCamera(open, fault);
}

function listenToDrops(openAll, fault) {
  const cover = (shown) => ($('dropping').hidden = !shown);
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    cover(true);
  });
  document.addEventListener('dragleave', (event) => event.relatedTarget ?? cover(false));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    cover(false);
    const { files } = event.dataTransfer;
    if (files.length) openAll(files);
    else fault('That was no file; save the picture first, then drop the file');
  });
}

function listenToCamera(open, fault) {
  const booth = $('booth');
  const video = $('video');
  let taken = 0;
  const stop = () => video.srcObject?.getTracks().forEach((track) => track.stop());
  $('camera').addEventListener('click', async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user', width: { ideal: 1280 } } });
      booth.showModal();
    } catch (error) {
      const reason = error.name === 'NotAllowedError' ? 'was not allowed' : 'is not there or in use';
      fault(`The camera ${reason}; choose a file`);
    }
  });
  $('shoot').addEventListener('click', () => {
    if (!video.videoWidth) return;
    const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext('2d').drawImage(video, 0, 0);
    canvas.toBlob((blob) => open(blob, `camera-${++taken}.png`));
    booth.close();
  });
  $('leave').addEventListener('click', () => booth.close());
  booth.addEventListener('close', stop);
}

/** Buttons for the samples in the page. samples: [{name, blob}]. */
export function showSamples(samples, open) {
  $('samples-box').hidden = !samples.length;
  for (const { name, blob } of samples) {
    const button = $('samples').appendChild(document.createElement('li')).appendChild(document.createElement('button'));
    const image = button.appendChild(new Image());
    image.src = URL.createObjectURL(blob);
    image.alt = `Invert ${name}`;
    button.type = 'button';
    button.addEventListener('click', () => open(blob, name));
  }
}
