// ONNX Runtime Web in one of its two builds: WebAssembly, or WebGPU where the browser has it.

import { UserError } from './picture.js';

/** What a build runs on here: {title, threads}; UserError with the reason why it cannot. */
export async function device(name) {
  return name === 'webgpu' ? graphics() : processor();
}

/**
 * A function that runs a graph of the page: (graph, inputs by name, or the only one) => outputs by name.
 *
 * build: {module, wasm}, names of files. graphs: name => {file, external, late}; all are open then but those
 * that are `late`, and step(what) is told of each.
 */
export async function openRuntime(name, threads, build, graphs, files, step) {
  const source = URL.createObjectURL(new Blob([files[build.module]], { type: 'text/javascript' }));
  const ort = await import(source);
  ort.env.logLevel = 'error';
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = files[build.wasm];
  const sessions = {};
  const open = async (graph) => {
    const { file, external } = graphs[graph];
    sessions[graph] = await ort.InferenceSession.create(files[file], {
      executionProviders: [name],
      externalData: external.map((path) => ({ path, data: files[path] })),
      graphOptimizationLevel: 'all',
    });
  };
  for (const graph of Object.keys(graphs).filter((graph) => !graphs[graph].late)) {
    step(`Opening ${graph}`);
    await open(graph);
  }
  return async (graph, inputs) => {
    if (!sessions[graph]) await open(graph);
    const named = 'data' in inputs ? { [sessions[graph].inputNames[0]]: inputs } : inputs;
    const feeds = Object.fromEntries(
      Object.entries(named).map(([own, { data, dims }]) => [own, new ort.Tensor('float32', data, dims)]),
    );
    return sessions[graph].run(feeds);
  };
}

async function graphics() {
  if (!navigator.gpu) throw new UserError('this browser has none');
  if (!WebAssembly.Suspending) throw new UserError('this browser cannot suspend WebAssembly');
  const found = await navigator.gpu.requestAdapter();
  if (!found || found.info?.isFallbackAdapter) throw new UserError('there is no graphics adapter');
  const { description, vendor, architecture } = found.info ?? {};
  const title = description || [vendor, architecture].filter(Boolean).join(' ') || 'a graphics card';
  return { title: `WebGPU on ${title}`, threads: 1 };
}

/** Several threads share memory, which browsers allow to pages served with COOP and COEP headers only. */
function processor() {
  const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  return { title: `WebAssembly, ${threads} ${threads === 1 ? 'thread' : 'threads'}`, threads };
}
