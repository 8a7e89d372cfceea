// From pixels as they were read to windows of the network, and from the maps of windows to the map of the image, as
// segjax.data.preprocess, segjax.inference.tiling and segjax.inference.dense do. Images are {pixels, width, height,
// channels} with interleaved channels.

// Maps two percentiles of each channel to 0 and 1.
function normaliseImage(image, [low, high]) {
  const {pixels, channels} = image, result = new Float32Array(pixels.length);
  for (let channel = 0; channel < channels; channel++) {
    const sorted = new pixels.constructor(pixels.length / channels);
    for (let i = 0; i < sorted.length; i++) sorted[i] = pixels[i * channels + channel];
    sorted.sort();
    let bottom = percentileOf(sorted, low), top = percentileOf(sorted, high);
    if (top <= bottom) [bottom, top] = [sorted[0], sorted[sorted.length - 1]];
    const spread = top > bottom ? top - bottom : 1;
    for (let i = channel; i < pixels.length; i += channels) result[i] = (pixels[i] - bottom) / spread;
  }
  return {...image, pixels: result};
}

function percentileOf(sorted, percentile) {
  const position = (sorted.length - 1) * percentile / 100, index = Math.floor(position), rest = position - index;
  const below = sorted[index], above = sorted[Math.min(index + 1, sorted.length - 1)];
  return rest < 0.5 ? below + (above - below) * rest : above - (above - below) * (1 - rest);
}

// Resizes by linear interpolation, with anti-aliasing if the factor is below 1.
function resizeImage(image, factor) {
  if (factor === 1) return image;
  const {width, height, channels} = image;
  const size = {width: resizedSide(width, factor), height: resizedSide(height, factor)};
  const sigma = (old, side) => (factor < 1 ? Math.max(0, (old / side - 1) / 2) : 0);
  const sigmas = [sigma(height, size.height), sigma(width, size.width)];
  const smooth = gaussian(image.pixels, width, height, sigmas, "mirror", channels);
  const rows = linearAxis(height, size.height), columns = linearAxis(width, size.width);
  const pixels = new Float32Array(size.width * size.height * channels);
  let out = 0;
  for (const [top, bottom, down] of rows) {
    for (const [left, right, along] of columns) {
      for (let c = 0; c < channels; c++) {
        const at = (row, column) => smooth[(row * width + column) * channels + c];
        const upper = (1 - along) * at(top, left) + along * at(top, right);
        const lower = (1 - along) * at(bottom, left) + along * at(bottom, right);
        pixels[out++] = (1 - down) * upper + down * lower;
      }
    }
  }
  return {...image, ...size, pixels};
}

function resizedSide(side, factor) {
  return Math.max(1, roundEven(factor * side));
}

// The two pixels beside each pixel of a resized axis, and the weight of the second; centres are at half-integers.
function linearAxis(old, side) {
  return Array.from({length: side}, (_, index) => {
    const position = (index + 0.5) * (old / side) - 0.5, first = Math.floor(position);
    return [foldIndex(first, old, "mirror"), foldIndex(first + 1, old, "mirror"), position - first];
  });
}

// Resizes a label map: each pixel gets the id with the largest weight in a linear interpolation; equal weights are
// decided alternately.
function resizeLabels(labels, width, height, newWidth, newHeight) {
  if (width === newWidth && height === newHeight) return labels;
  const axis = (old, side) => Array.from({length: side}, (_, index) => {
    // In integers, so that equal weights are exactly equal.
    const position = (2 * index + 1) * old - side, first = Math.floor(position / (2 * side));
    const clip = (value) => Math.min(Math.max(value, 0), old - 1);
    return [clip(first), clip(first + 1), (position - first * 2 * side) / (2 * side)];
  });
  const rows = axis(height, newHeight), columns = axis(width, newWidth);
  const result = new Int32Array(newWidth * newHeight);
  rows.forEach(([top, bottom, y], row) => columns.forEach(([left, right, x], column) => {
    const ids = [[top, left], [top, right], [bottom, left], [bottom, right]].map(([r, c]) => labels[r * width + c]);
    const weights = [(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x];
    const votes = ids.map((id) => ids.reduce((sum, other, k) => sum + (other === id ? weights[k] : 0), 0));
    const most = Math.max(...votes);
    const winner = (row + column) % 2 === 0 ? votes.indexOf(most) : votes.lastIndexOf(most);
    result[row * newWidth + column] = ids[winner];
  }));
  return result;
}

// Square windows of an image, as segjax.inference.tiling.Windows; `settings` are its largest side, overlap, margin,
// stride and the step of smaller sides.
function windowSide({largest, step}, width, height) {
  return Math.min(largest, Math.ceil(Math.max(width, height) / step) * step);
}

function windowStarts({overlap, margin, stride}, length, side) {
  const strides = Math.floor((length - side) / stride);
  if (strides <= 0) return [0];
  const gaps = Math.ceil(strides / Math.floor((side - Math.max(overlap, 2 * margin)) / stride));
  return Array.from({length: gaps + 1}, (_, index) => Math.floor(index * strides / gaps) * stride);
}

// Returns start and weights of each window along an axis.
function windowWeights(settings, length, side) {
  const starts = windowStarts(settings, length, side), {margin} = settings;
  const ramp = (position, gap) => {
    const value = (position + 0.5 - margin) / Math.max(side - gap - 2 * margin, 1);
    return Math.min(Math.max(value, 0), 1);
  };
  return starts.map((start, index) => [start, Float32Array.from({length: side}, (_, position) => Math.min(
    index > 0 ? ramp(position, start - starts[index - 1]) : 1,
    index + 1 < starts.length ? ramp(side - 1 - position, starts[index + 1] - start) : 1,
  ))]);
}

// Predicts maps window by window and blends them.
//
// predict: (window [side, side, channels], side) -> promise of {name: map [side, side, ...]}.
// windows: `single` and `several`, for images that are and are not larger than one window.
// ahead: number of windows that are predicted at a time.
// Returns {name: map [H, W, ...]}.
async function predictWindows(image, windows, predict, ahead = 1) {
  const {width, height, channels, pixels} = image;
  const settings = Math.max(width, height) <= windows.single.largest ? windows.single : windows.several;
  const side = windowSide(settings, width, height);
  const padded = (length) => length + Math.max(side - length, ((side - length) % settings.stride + settings.stride) % settings.stride);
  const rowWindows = windowWeights(settings, padded(height), side);
  const columnWindows = windowWeights(settings, padded(width), side);
  const total = new Float32Array(width * height), sums = {};
  const start = ([top], [left]) => {
    const window = new Float32Array(side * side * channels);
    for (let y = 0, out = 0; y < side; y++) {
      const row = foldIndex(top + y, height, "reflect") * width;
      for (let x = 0; x < side; x++) {
        const first = (row + foldIndex(left + x, width, "reflect")) * channels;
        for (let c = 0; c < channels; c++) window[out++] = pixels[first + c];
      }
    }
    return predict(window, side);
  };
  const add = (maps, [top, rows], [left, columns]) => {
    for (const [name, values] of Object.entries(maps)) {
      const depth = values.length / (side * side);
      sums[name] ??= new Float32Array(width * height * depth);
      eachPixel((target, source, weight) => {
        for (let k = 0; k < depth; k++) sums[name][target * depth + k] += weight * values[source * depth + k];
      });
    }
    eachPixel((target, source, weight) => { total[target] += weight; });

    function eachPixel(visit) {
      for (let y = 0; y < side && top + y < height; y++) {
        for (let x = 0; x < side && left + x < width; x++) {
          visit((top + y) * width + left + x, y * side + x, rows[y] * columns[x]);
        }
      }
    }
  };
  // Windows are added in order, so that sums are the same each time, and few are in memory.
  await eachInOrder(rowWindows.flatMap((row) => columnWindows.map((column) => [row, column])), ahead,
    (position) => start(...position), (maps, position) => add(maps, ...position));
  for (const values of Object.values(sums)) {
    const depth = values.length / total.length;
    for (let i = 0; i < values.length; i++) values[i] /= total[Math.floor(i / depth)];
  }
  return sums;
}

// Starts a task for each item, at most `ahead` at a time, and calls `use(result, item)` in order.
async function eachInOrder(items, ahead, start, use) {
  const started = [];
  const useFirst = async () => {
    const [promise, item] = started.shift();
    use(await promise, item);
  };
  for (const item of items) {
    if (started.length >= ahead) await useFirst();
    const promise = start(item);
    // An error is reported when its turn comes, or not at all after another one.
    promise.catch(() => {});
    started.push([promise, item]);
  }
  while (started.length) await useFirst();
}

// Mirrors a square map with interleaved values, up to down and left to right; `isVector` for rows and columns of vectors.
function mirrorMap(values, side, [isVertical, isHorizontal], isVector = false) {
  const depth = values.length / (side * side), result = new Float32Array(values.length);
  const signs = isVector ? [isVertical ? -1 : 1, isHorizontal ? -1 : 1] : new Array(depth).fill(1);
  for (let y = 0, out = 0; y < side; y++) {
    const row = isVertical ? side - 1 - y : y;
    for (let x = 0; x < side; x++) {
      const start = (row * side + (isHorizontal ? side - 1 - x : x)) * depth;
      for (let k = 0; k < depth; k++) result[out++] = signs[k] * values[start + k];
    }
  }
  return result;
}
