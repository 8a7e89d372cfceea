// The worker that segments: reads an image, has windows predicted by the workers of the network, makes cells.

// Predictions beyond the first if the diameter is estimated, the ratio of diameters that is close enough, and the
// range of scales, as in segjax.inference.dense.
const PASSES = 2, TOLERANCE = 1.25, SCALES = [0.25, 4];
const MIRRORS = [[false, false], [true, false], [false, true], [true, true]];

const engine = {network: null, helpers: [], waiting: [], image: null, prepared: null, maps: null, size: null};

// A predicted window, by the next helper that is idle.
function askHelper(window, side) {
  return new Promise((resolve, reject) => {
    engine.waiting.push({window, side, resolve, reject});
    assignWork();
  });
}

function assignWork() {
  for (const helper of engine.helpers) {
    if (helper.task || !engine.waiting.length) continue;
    helper.task = engine.waiting.shift();
    helper.port.postMessage({window: helper.task.window, side: helper.task.side}, [helper.task.window.buffer]);
  }
}

function addHelper(port) {
  const helper = {port, task: null};
  port.onmessage = ({data}) => {
    const task = helper.task;
    helper.task = null;
    assignWork();
    if (data.error) task.reject(new Error(data.error));
    else task.resolve(data.maps);
  };
  engine.helpers.push(helper);
}

// Returns the maps of a window, the mean over its mirror images if the network was fitted so.
async function predictWindow(window, side) {
  const {network} = engine;
  if (!network.flips) return askHelper(window, side);
  const sums = {};
  const ask = (mirror) => askHelper(mirrorMap(window, side, mirror), side);
  await eachInOrder(MIRRORS, MIRRORS.length, ask, (maps, mirror) => {
    for (const [name, values] of Object.entries(maps)) {
      const isVector = network.vectors && name === network.instances;
      const upright = mirrorMap(values, side, mirror, isVector);
      sums[name] ??= new Float32Array(values.length);
      for (let i = 0; i < values.length; i++) sums[name][i] += upright[i] / MIRRORS.length;
    }
  });
  return sums;
}

async function predictMaps(image) {
  // One more than the helpers, so that none waits while a window is added.
  const maps = await predictWindows(image, engine.network.windows, predictWindow, engine.helpers.length + 1);
  engine.maps = {classes: maps.classes, values: maps[engine.network.instances]};
  engine.size = {width: image.width, height: image.height};
}

// Predicts the maps at the scale that the network knows; without a diameter, the cells of a first prediction state it.
async function predictAtScale(diameter) {
  const {network, prepared} = engine, trained = network.diameter;
  if (trained && diameter) return predictMaps(resizeImage(prepared, trained / diameter));
  await predictMaps(prepared);
  if (!trained) return undefined;
  let factor = 1;
  for (let pass = 0; pass < PASSES; pass++) {
    const {labels} = segment(engine.maps, engine.size.width, engine.size.height, network);
    const own = typicalDiameter(labels);
    const change = own > 0 ? Math.min(Math.max(trained / own, 0.5), 2) : 1;
    if (Math.abs(Math.log(change)) < Math.log(TOLERANCE)) return undefined;
    factor = Math.min(Math.max(factor * change, SCALES[0]), SCALES[1]);
    await predictMaps(resizeImage(prepared, factor));
  }
  return undefined;
}

// Makes the cells with the settings of the sliders, at the resolution of the image.
function makeCells(settings) {
  const {image, size, maps, network} = engine;
  const changed = {...network, ...settings, decoder: {...network.decoder, ...settings.decoder}};
  const decoded = segment(maps, size.width, size.height, changed);
  const labels = resizeLabels(decoded.labels, size.width, size.height, image.width, image.height);
  return listCells(labels, image.width, decoded);
}

// Measures the cells and numbers those that have a pixel 1, 2, ...
function listCells(labels, width, {classes, scores}) {
  const measured = classes.map((index, i) => ({class: index, score: scores[i], area: 0, x: 0, y: 0}));
  for (let i = 0; i < labels.length; i++) {
    if (!labels[i]) continue;
    const cell = measured[labels[i] - 1];
    cell.area++;
    cell.x += i % width;
    cell.y += Math.floor(i / width);
  }
  let next = 0;
  const numbers = Int32Array.from([0, ...measured.map((cell) => (cell.area ? ++next : 0))]);
  const cells = measured.filter((cell) => cell.area).map((cell, i) => (
    {...cell, id: i + 1, x: cell.x / cell.area, y: cell.y / cell.area}));
  return {labels: labels.map((id) => numbers[id]), cells};
}

const ACTIONS = {
  start({network, ports}) {
    engine.network = network;
    ports.forEach(addHelper);
  },
  async open({file}) {
    const image = await readImage(file);
    const prepared = resizeImage(
      normaliseImage(matchChannels(image, engine.network.channels), engine.network.percentiles), engine.network.scale);
    const picture = displayedPixels(image);
    // A refused image leaves the one before as it is.
    Object.assign(engine, {image, prepared});
    return {width: image.width, height: image.height, picture};
  },
  async predict({diameter, settings}) {
    await predictAtScale(diameter);
    return makeCells(settings);
  },
  decode: ({settings}) => makeCells(settings),
};

// One action after the other, as they share the image.
let last = Promise.resolve();
self.onmessage = ({data}) => {
  last = last.then(async () => {
    try {
      self.postMessage({number: data.number, result: await ACTIONS[data.action](data)});
    } catch (error) {
      self.postMessage({number: data.number, error: error.message});
    }
  });
};
