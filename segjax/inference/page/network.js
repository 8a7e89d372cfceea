// A worker that runs the network on windows, by the runtime that the page contains.

let runtime = null, weights = null, graphs = null, names = null;
// A session for each side of windows, made when it is first needed.
const sessions = new Map();

async function start({module, binary, ...rest}, port) {
  ({weights, graphs, names} = rest);
  // On a page from the disk, a worker can import only what it has an address for from itself.
  runtime = await import(URL.createObjectURL(new Blob([module], {type: "text/javascript"})));
  runtime.env.wasm.numThreads = 1;
  runtime.env.wasm.wasmBinary = binary;
  port.onmessage = ({data}) => answer(data, port);
}

function openSession(side) {
  if (!sessions.has(side)) {
    sessions.set(side, runtime.InferenceSession.create(graphs[side], {
      executionProviders: ["wasm"], externalData: [{path: "weights", data: weights}],
    }));
  }
  return sessions.get(side);
}

async function answer({window, side}, port) {
  try {
    const session = await openSession(side);
    const shape = [1, side, side, window.length / (side * side)];
    const outputs = await session.run({images: new runtime.Tensor("float32", window, shape)});
    const maps = Object.fromEntries(names.map((name) => [name, Float32Array.from(outputs[name].data)]));
    port.postMessage({maps}, Object.values(maps).map((values) => values.buffer));
  } catch (error) {
    port.postMessage({error: `the network did not run (${error.message}): give a smaller image`});
  }
}

self.onmessage = async ({data}) => {
  try {
    await start(data.files, data.port);
    self.postMessage({});
  } catch (error) {
    self.postMessage({error: `the network did not start (${error.message}): open the page in a current browser`});
  }
};
