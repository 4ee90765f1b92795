// The page's side of the worker: calls as promises.

export class Engine {
  /** onprogress({done, total, what}) is told how far a call is. */
  constructor(onprogress) {
    const source = document.getElementById('worker').textContent;
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
    this.waiting = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data }) => {
      if (data.progress) return onprogress(data.progress);
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ('fault' in data) reject(Object.assign(new Error(data.fault), { usual: data.usual }));
      else resolve(data.result);
    };
    this.worker.onerror = (event) => {
      const error = new Error(`this browser cannot run the page (${event.message ?? 'no worker'}); try a newer one`);
      for (const { reject } of this.waiting.values()) reject(error);
    };
  }

  /** The result of a function of the worker; an Error of one line, `usual` where a user caused it. */
  call(name, ...args) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.count, { resolve, reject });
      this.worker.postMessage({ id: this.count, call: name, args });
    });
  }

  stop() {
    this.worker.terminate();
  }
}
