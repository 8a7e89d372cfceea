// The page: uploads, settings, corrections and downloads.

import {drawCells, drawHistogram, loadIds} from "./drawing.js";

const $ = (id) => document.getElementById(id);
const state = {
  images: [], current: null, picture: null, ids: null, cells: null, selected: new Set(), tool: "select", outline: [],
  moved: {}, sliders: [], maxUpload: Infinity,
};
let pending = null, wait = null, isCorrecting = false;

async function ask(address, options = {}) {
  const response = await fetch(address, options);
  const content = await response.json();
  if (!response.ok) throw new Error(content.error);
  return content;
}

const send = (address, content, signal) => ask(address, {
  method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(content), signal,
});

const numberOf = (count) => `${count} cell${count === 1 ? "" : "s"}`;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// Runs a function, and shows its error as the status. An aborted request is no error: a newer one follows.
function guarded(action) {
  return async (...values) => {
    try {
      await action(...values);
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, true);
    }
  };
}

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const address = (part) => `api/images/${state.current.key}/${part}`;

// Images.

const upload = async (files) => {
  // A file that fails does not keep the others from being uploaded.
  for (const file of files) await uploadOne(file);
};

const uploadOne = guarded(async (file) => {
  if (file.size > state.maxUpload) {
    throw new Error(`${file.name} is larger than ${state.maxUpload / 2 ** 20} MiB: give a smaller file`);
  }
  say(`uploading ${file.name} ...`);
  const about = await ask(`api/images?name=${encodeURIComponent(file.name)}`, {method: "POST", body: file});
  state.images.push(about);
  listImages();
  await choose(about);
});

function listImages() {
  $("images").replaceChildren(...state.images.map((about) => element(
    "li", {className: about === state.current ? "on" : ""},
    element("img", {src: `api/images/${about.key}/picture.png`, alt: "", loading: "lazy"}),
    element("button", {className: "name", title: about.name, textContent: about.name, onclick: guarded(() => choose(about))}),
    element("button", {textContent: "×", title: `Remove ${about.name}`, onclick: guarded(() => remove(about))}),
  )));
}

async function remove(about) {
  await ask(`api/images/${about.key}`, {method: "DELETE"});
  state.images = state.images.filter((one) => one !== about);
  if (state.current === about) {
    Object.assign(state, {current: null, picture: null, ids: null, cells: null});
    $("canvas").width = $("canvas").height = 0;
    if (state.images.length) await choose(state.images[0]);
  }
  listImages();
  refresh();
}

async function choose(about) {
  state.current = about;
  listImages();
  state.selected.clear();
  state.outline = [];
  const picture = new Image();
  picture.src = address("picture.png");
  await picture.decode();
  if (about !== state.current) return;
  Object.assign(state, {picture, ids: null, cells: null});
  refresh();
  if (about.version) await show(about);
  else await segment();
}

// Methods and settings.

const chooseMethod = guarded(async () => {
  const about = await ask(`api/methods?method=${encodeURIComponent($("method").value)}`);
  state.sliders = about.sliders;
  state.moved = {};
  $("diameter-row").hidden = !about.has_diameter;
  $("diameter").value = "";
  listSliders();
});

function listSliders() {
  $("sliders").replaceChildren(...state.sliders.map((slider) => {
    const output = element("output", {textContent: slider.value});
    const input = element("input", {
      type: "range", min: slider.low, max: slider.high, step: slider.step, value: slider.value, name: slider.name,
    });
    input.oninput = () => {
      output.textContent = input.value;
      state.moved[slider.name] = Number(input.value);
      segmentSoon();
    };
    return element("label", {}, slider.label, output, input);
  }));
}

// While a slider moves, only the newest value is segmented.
function segmentSoon() {
  clearTimeout(wait);
  wait = setTimeout(guarded(segment), 40);
}

async function segment() {
  if (!state.current) return;
  pending?.abort();
  const request = pending = new AbortController();
  say(`segmenting ${state.current.name} ...`);
  const about = state.current;
  const cells = await send(address("segment"), {
    method: $("method").value, diameter: $("diameter").value || "auto", settings: state.moved,
  }, request.signal);
  if (request !== pending || about !== state.current) return;
  await show(cells);
  const what = cells.network_ran ? "the method ran" : "only the settings changed";
  say(`${about.name}: ${numberOf(cells.count)} in ${cells.seconds.toFixed(2)} s; ${what}`);
}

async function show(cells) {
  const about = state.current;
  const ids = await loadIds(address(`labels.png?version=${cells.version}`));
  if (about !== state.current) return;
  Object.assign(state, {ids, cells});
  Object.assign(about, cells);
  state.selected.clear();
  refresh();
}

function refresh() {
  const {cells, selected} = state;
  $("count").textContent = cells ? numberOf(cells.count) : "No cells";
  $("classes").replaceChildren(...(cells?.classes ?? []).map((one) => {
    const box = element("span");
    box.style.background = one.colour;
    return element("li", {}, box, `${one.name}: ${one.count}`);
  }));
  const names = [...$("class").options].map((option) => option.textContent);
  if (cells && cells.classes.map((one) => one.name).join("\n") !== names.join("\n")) {
    $("class").replaceChildren(...cells.classes.map((one, index) => element("option", {value: index + 1, textContent: one.name})));
  }
  $("class").hidden = !cells || cells.classes.length < 2;
  $("delete").disabled = !selected.size;
  $("merge").disabled = selected.size < 2;
  $("undo").disabled = !cells?.can_undo;
  $("download").disabled = $("dataset").disabled = !cells;
  drawHistogram($("histogram"), cells?.areas ?? [], cells?.pixel_size);
  redraw();
}

function redraw() {
  if (!state.picture) return;
  const ids = $("show").checked ? state.ids : null;
  drawCells($("canvas"), state.picture, ids, state.cells, state.selected, state.outline);
  const stage = $("stage"), {width, height} = state.picture;
  const fit = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const shown = Math.floor(fit * width * $("zoom").value);
  $("canvas").style.width = `${shown}px`;
  // Sharp pixels where they are enlarged; else lines of one pixel would have gaps.
  $("canvas").style.imageRendering = shown < width ? "auto" : "pixelated";
}

// Corrections.

// Ids are those of the cells that are shown: a correction before the next ones are shown is dropped.
const correct = guarded(async (fields) => {
  if (isCorrecting) return;
  isCorrecting = true;
  try {
    const about = state.current;
    const cells = await send(address("correct"), {...fields, version: state.cells.version});
    if (about !== state.current) return;
    await show(cells);
    say(numberOf(cells.count));
  } finally {
    isCorrecting = false;
  }
});

function pixel(event) {
  const box = $("canvas").getBoundingClientRect();
  return [
    Math.floor((event.clientX - box.left) / box.width * $("canvas").width),
    Math.floor((event.clientY - box.top) / box.height * $("canvas").height),
  ];
}

$("canvas").onpointerdown = (event) => {
  if (!state.ids) return;
  const [x, y] = pixel(event);
  if (state.tool === "draw") {
    $("canvas").setPointerCapture(event.pointerId);
    state.outline = [[x, y]];
    return;
  }
  const id = state.ids[y * state.picture.width + x];
  const wasSelected = state.selected.has(id);
  if (!event.shiftKey) state.selected.clear();
  if (id && wasSelected && event.shiftKey) state.selected.delete(id);
  else if (id) state.selected.add(id);
  refresh();
};
$("canvas").onpointermove = (event) => {
  if (!state.ids) return;
  const [x, y] = pixel(event);
  if (state.outline.length) {
    state.outline.push([x, y]);
    redraw();
    return;
  }
  const id = state.ids[y * state.picture.width + x];
  $("hover").textContent = id ? `cell ${id}: ${state.cells.areas[id - 1]} px` : "";
};
$("canvas").onpointerup = () => {
  const outline = state.outline;
  state.outline = [];
  if (outline.length > 2) correct({draw: outline, class: Number($("class").value) || 1});
  else redraw();
};

function useTool(tool) {
  state.tool = tool;
  for (const name of ["select", "draw"]) $(`tool-${name}`).classList.toggle("on", name === tool);
}

const removeSelected = () => state.selected.size && correct({delete: [...state.selected]});
$("tool-select").onclick = () => useTool("select");
$("tool-draw").onclick = () => useTool("draw");
$("delete").onclick = removeSelected;
$("merge").onclick = () => correct({merge: [...state.selected]});
$("undo").onclick = () => correct({undo: true});
document.onkeydown = (event) => {
  if (event.target.tagName === "INPUT" && event.target.type === "number") return;
  if (event.repeat) return;
  if (event.key === "Delete" || event.key === "Backspace") removeSelected();
  else if (event.key === "z" && (event.ctrlKey || event.metaKey) && state.cells?.can_undo) correct({undo: true});
};

// Downloads.

const download = guarded(async (from, name) => {
  say("preparing the download ...");
  const response = await fetch(from);
  if (!response.ok) throw new Error((await response.json()).error);
  const link = element("a", {href: URL.createObjectURL(await response.blob()), download: name});
  link.click();
  URL.revokeObjectURL(link.href);
  say(`${name} is downloaded`);
});

$("download").onclick = () => {
  const formats = [...document.querySelectorAll("#formats input:checked")].map((box) => box.value);
  if (!formats.length) return say("choose a format", true);
  return download(address(`exports.zip?formats=${formats}`), `${state.current.name.replace(/\.[^.]*$/, "")}.zip`);
};
$("dataset").onclick = () => download("api/dataset.zip", "dataset.zip");

// The rest of the page.

$("files").onchange = async (event) => {
  await upload([...event.target.files]);
  event.target.value = "";
};
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  upload([...event.dataTransfer.files]);
};
$("method").onchange = async () => {
  await chooseMethod();
  segmentSoon();
};
$("diameter").onchange = segmentSoon;
$("reset").onclick = () => {
  state.moved = {};
  $("diameter").value = "";
  listSliders();
  segmentSoon();
};
$("zoom").oninput = $("show").onchange = window.onresize = redraw;

await guarded(async () => {
  const about = await ask("api/methods");
  state.maxUpload = about.max_upload;
  $("method").replaceChildren(...about.methods.map((name) => element("option", {value: name, textContent: name})));
  $("formats").replaceChildren(...about.formats.map((name) => element("label", {},
    element("input", {type: "checkbox", value: name, checked: name === "labels" || name === "overlay"}), ` ${name}`)));
  state.images = await ask("api/images");
  await chooseMethod();
  listImages();
  if (state.images.length) await choose(state.images[0]);
})();
