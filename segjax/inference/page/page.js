// The page: starts the workers, shows the image with the outlines of its cells, and writes the files.

const $ = (id) => document.getElementById(id);
const network = JSON.parse($("about").textContent);
const state = {name: "", size: null, picture: null, labels: null, cells: [], settings: {}, hasMaps: false};
let engine = null, numCalls = 0, timer = null;
const calls = new Map();

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// Returns the bytes of a file that the page contains, compressed as gzip and written as base64.
async function unpack(id) {
  const node = $(id), text = atob(node.textContent);
  node.remove();
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const addressOf = (content) => URL.createObjectURL(new Blob([content], {type: "text/javascript"}));

// Starts the worker that segments, and a worker of the network for each core, at most four.
async function start() {
  engine = new Worker(addressOf($("engine-code").textContent));
  engine.onmessage = ({data}) => {
    const {resolve, reject} = calls.get(data.number);
    calls.delete(data.number);
    if (data.error) reject(new Error(data.error));
    else resolve(data.result);
  };
  const graphs = {};
  for (const side of network.sides) graphs[side] = await unpack(`graph-${side}`);
  const files = {
    module: await unpack("runtime"), binary: (await unpack("binary")).buffer, weights: await unpack("weights"),
    graphs, names: network.outputs,
  };
  const code = addressOf($("network-code").textContent);
  const ports = await Promise.all(Array.from({length: Math.min(Math.max(navigator.hardwareConcurrency || 2, 1), 4)}, () => (
    new Promise((resolve, reject) => {
      const worker = new Worker(code), {port1, port2} = new MessageChannel();
      worker.onmessage = ({data}) => (data.error ? reject(new Error(data.error)) : resolve(port2));
      worker.onerror = (event) => reject(new Error(event.message || "the network did not start: open the page in a current browser"));
      worker.postMessage({files, port: port1}, [port1]);
    })
  )));
  await call("start", {network, ports}, ports);
  $("file").disabled = false;
  say("Drop an image to begin.");
}

function call(action, content = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    calls.set(++numCalls, {resolve, reject});
    engine.postMessage({number: numCalls, action, ...content}, transfer);
  });
}

// Runs a function, and shows its error as the status.
const guarded = (action) => async (...values) => {
  try {
    await action(...values);
  } catch (error) {
    say(error.message, true);
  }
};

const openFile = guarded(async (file) => {
  if (!file || $("file").disabled) return;
  say(`Reading ${file.name} …`);
  // A file that is refused leaves the image before, and its sliders, as they are.
  const {width, height, picture} = await call("open", {file});
  state.hasMaps = false;
  Object.assign(state, {name: file.name, size: {width, height}, labels: null, cells: []});
  state.picture = new ImageData(picture, width, height);
  Object.assign($("canvas"), {width, height});
  zoom();
  draw();
  await predict();
});

const predict = guarded(async () => {
  if (!state.picture) return;
  say(`Segmenting ${state.name} …`);
  const begin = performance.now();
  await show(await call("predict", {diameter: Number($("diameter").value) || 0, settings: state.settings}));
  state.hasMaps = true;
  say(`${state.name}: ${((performance.now() - begin) / 1000).toFixed(2)} s`);
});

const decode = guarded(async () => {
  if (state.hasMaps) show(await call("decode", {settings: state.settings}));
});

function show({labels, cells}) {
  Object.assign(state, {labels, cells});
  $("count").textContent = `${cells.length} cell${cells.length === 1 ? "" : "s"}`;
  $("classes").replaceChildren(...network.class_names.slice(1).map((name, index) => {
    const item = document.createElement("li"), number = cells.filter((cell) => cell.class === index + 1).length;
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of [["width", 12], ["height", 12], ["fill", network.colours[index]]]) square.setAttribute(key, value);
    swatch.append(square);
    item.append(swatch, `${name}: ${number}`);
    return item;
  }));
  for (const id of ["labels", "table"]) $(id).disabled = false;
  draw();
}

// Draws the image, and the outline of each cell in the colour of its class.
function draw() {
  if (!state.picture) return;
  const {labels, size: {width, height}} = state;
  const image = new ImageData(new Uint8ClampedArray(state.picture.data), width, height);
  const colours = network.colours.map((text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16)));
  for (let y = 0, i = 0; labels && $("show").checked && y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = labels[i];
      const isEdge = id && ((x > 0 && labels[i - 1] !== id) || (x + 1 < width && labels[i + 1] !== id)
        || (y > 0 && labels[i - width] !== id) || (y + 1 < height && labels[i + width] !== id));
      if (isEdge) image.data.set(colours[state.cells[id - 1].class - 1], 4 * i);
    }
  }
  $("canvas").getContext("2d").putImageData(image, 0, 0);
}

function zoom() {
  if (!state.size) return;
  const {clientWidth, clientHeight} = $("stage");
  const fit = Math.min(clientWidth / state.size.width, clientHeight / state.size.height);
  $("canvas").style.width = `${Math.floor(state.size.width * fit * Number($("zoom").value))}px`;
}

function makeSliders() {
  $("sliders").replaceChildren(...network.sliders.map(({name, label, low, high, step, value}) => {
    const row = document.createElement("label"), output = document.createElement("output"), input = document.createElement("input");
    Object.assign(input, {type: "range", min: low, max: high, step, value, name});
    output.textContent = value;
    input.oninput = () => {
      output.textContent = input.value;
      changeSetting(name, Number(input.value));
      clearTimeout(timer);
      timer = setTimeout(decode, 120);
    };
    row.append(output, label, input);
    return row;
  }));
}

function changeSetting(name, value) {
  const [first, second] = name.split(".");
  if (second) state.settings.decoder = {...state.settings.decoder, [second]: value};
  else state.settings[first] = Array.isArray(network[first]) ? network[first].map(() => value) : value;
}

function save(content, name, type) {
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(new Blob([content], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const stem = () => state.name.replace(/\.[^.]*$/, "");
$("labels").onclick = () => save(labelTiff(state.labels, state.size.width, state.size.height, state.cells.length), `${stem()}_labels.tif`, "image/tiff");
$("table").onclick = () => save(cellTable(state.cells, network.class_names), `${stem()}_cells.csv`, "text/csv");
$("file").onchange = () => openFile($("file").files[0]).then(() => { $("file").value = ""; });
$("diameter-row").hidden = !network.diameter;
$("diameter").onchange = predict;
$("zoom").oninput = zoom;
$("show").onchange = draw;
$("reset").onclick = () => {
  state.settings = {};
  makeSliders();
  decode();
};
$("canvas").onmousemove = (event) => {
  const {width, height} = state.size, box = $("canvas").getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * width), y = Math.floor((event.clientY - box.top) / box.height * height);
  const cell = state.cells[(state.labels?.[y * width + x] ?? 0) - 1];
  $("hover").textContent = cell ? `cell ${cell.id}: ${network.class_names[cell.class]}, ${cell.area} px, score ${cell.score.toFixed(2)}` : "";
};
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") openFile(event.dataTransfer.files[0]);
  });
}
makeSliders();
guarded(start)();
