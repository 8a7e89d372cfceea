// Operations on maps of pixels, with the results of SciPy and scikit-image to the last bit where that is possible.
//
// A framed map has a border of one pixel, so that every pixel inside has eight neighbours: pixel (y, x) of an
// image of `width` columns is at (y + 1) * (width + 2) + x + 1.

// Offsets of the neighbours in a framed map, in the order of scikit-image: sides first, then corners.
function sideOffsets(width) {
  const row = width + 2;
  return [-row, -1, 1, row];
}

function allOffsets(width) {
  const row = width + 2;
  return [...sideOffsets(width), -row - 1, -row + 1, row - 1, row + 1];
}

// Returns a framed copy of a map; `fill` is the value of the border.
function frame(values, width, height, fill) {
  const row = width + 2;
  const framed = new values.constructor(row * (height + 2)).fill(fill);
  for (let y = 0; y < height; y++) framed.set(values.subarray(y * width, (y + 1) * width), (y + 1) * row + 1);
  return framed;
}

// Returns the map without its border.
function unframe(framed, width, height) {
  const row = width + 2;
  const values = new framed.constructor(width * height);
  for (let y = 0; y < height; y++) values.set(framed.subarray((y + 1) * row + 1, (y + 2) * row - 1), y * width);
  return values;
}

// Rounds as Python does: halves to the even number.
function roundEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

// Index of a position outside of an axis, by the names of SciPy: "reflect" repeats the pixel at the edge,
// "mirror" does not.
function foldIndex(index, length, mode) {
  if (mode === "reflect") {
    const folded = ((index % (2 * length)) + 2 * length) % (2 * length);
    return folded < length ? folded : 2 * length - 1 - folded;
  }
  const period = Math.max(2 * length - 2, 1);
  const folded = ((index % period) + period) % period;
  return folded < length ? folded : period - folded;
}

// Smooths a map with `channels` interleaved values a pixel along both axes, as scipy.ndimage.gaussian_filter does.
// `sigmas` are those of rows and columns; the mode "constant" has zeros outside.
function gaussian(values, width, height, sigmas, mode = "reflect", channels = 1) {
  const smoothed = smoothAxis(values, height, width * channels, 1, sigmas[0], mode);
  return smoothAxis(smoothed, width, channels, height, sigmas[1], mode);
}

// Smooths `outer` blocks of `length` x `step` values along their first axis.
function smoothAxis(values, length, step, outer, sigma, mode) {
  const radius = Math.floor(4 * sigma + 0.5);
  if (!(sigma > 1e-15) || radius < 1) return values;
  const weights = Float64Array.from({length: radius + 1}, (_, k) => Math.exp(-0.5 / (sigma * sigma) * k * k));
  const sum = weights.reduce((total, weight, k) => total + (k ? 2 : 1) * weight, 0);
  const result = new values.constructor(values.length);
  const line = new Float64Array(length + 2 * radius);
  // Where each element of the extended line is; -1 for zero.
  const indices = Int32Array.from(line, (_, k) => {
    const index = k - radius;
    if (index >= 0 && index < length) return index;
    return mode === "constant" ? -1 : foldIndex(index, length, mode);
  });
  for (let k = 0; k <= radius; k++) weights[k] /= sum;
  for (let block = 0; block < outer; block++) {
    for (let offset = 0; offset < step; offset++) {
      const start = block * length * step + offset;
      for (let k = 0; k < line.length; k++) line[k] = indices[k] < 0 ? 0 : values[start + indices[k] * step];
      for (let i = 0; i < length; i++) {
        let total = line[i + radius] * weights[0];
        for (let k = radius; k > 0; k--) total += (line[i + radius - k] + line[i + radius + k]) * weights[k];
        result[start + i * step] = total;
      }
    }
  }
  return result;
}

// Numbers the connected parts of a framed mask by their first pixel; returns framed labels and their number.
function labelParts(mask, offsets) {
  const labels = new Int32Array(mask.length), stack = [];
  let count = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++count;
    stack.push(start);
    while (stack.length) {
      const pixel = stack.pop();
      for (const offset of offsets) {
        const other = pixel + offset;
        if (mask[other] && !labels[other]) {
          labels[other] = count;
          stack.push(other);
        }
      }
    }
  }
  return {labels, count};
}

// Returns the regional maxima of a framed map inside a framed mask: plateaus without a higher neighbour.
// Every pixel outside of the mask, and the border, must be lower than those inside, or its own plateau's maximum.
function regionalMaxima(heights, mask, offsets) {
  const maxima = new Uint8Array(heights.length), isSeen = new Uint8Array(heights.length), plateau = [];
  for (let start = 0; start < heights.length; start++) {
    if (!mask[start] || isSeen[start]) continue;
    const height = heights[start];
    let isMaximum = true;
    plateau.length = 0;
    plateau.push(start);
    isSeen[start] = 1;
    for (let next = 0; next < plateau.length; next++) {
      for (const offset of offsets) {
        const other = plateau[next] + offset;
        if (heights[other] > height) isMaximum = false;
        else if (heights[other] === height && mask[other] && !isSeen[other]) {
          isSeen[other] = 1;
          plateau.push(other);
        }
      }
    }
    if (isMaximum) for (const pixel of plateau) maxima[pixel] = 1;
  }
  return maxima;
}

// Reconstructs a framed map by dilation from `marker` under `mask`, in place: two scans, then a queue (Vincent 1993).
function reconstruct(marker, mask, inside, offsets) {
  const before = offsets.filter((offset) => offset < 0), after = offsets.filter((offset) => offset > 0);
  const raise = (pixel, neighbours) => {
    let value = marker[pixel];
    for (const offset of neighbours) if (inside[pixel + offset]) value = Math.max(value, marker[pixel + offset]);
    marker[pixel] = Math.min(value, mask[pixel]);
  };
  for (let pixel = 0; pixel < marker.length; pixel++) if (inside[pixel]) raise(pixel, before);
  const queue = [];
  for (let pixel = marker.length - 1; pixel >= 0; pixel--) {
    if (!inside[pixel]) continue;
    raise(pixel, after);
    const canRaise = (other) => inside[other] && marker[other] < Math.min(marker[pixel], mask[other]);
    if (after.some((offset) => canRaise(pixel + offset))) queue.push(pixel);
  }
  for (let next = 0; next < queue.length; next++) {
    const pixel = queue[next];
    for (const offset of offsets) {
      const other = pixel + offset;
      if (inside[other] && marker[other] < marker[pixel] && marker[other] < mask[other]) {
        marker[other] = Math.min(marker[pixel], mask[other]);
        queue.push(other);
      }
    }
  }
  return marker;
}

// Floods a framed map from labelled pixels, lowest first, in place, as skimage.segmentation.watershed does.
// `seeds` are the labelled pixels in the order of rows; pixels outside of `inside` stay.
function flood(heights, labels, inside, seeds, offsets) {
  // Entries of the queue in the order in which they enter: all seeds count as entered first.
  const pixels = [...seeds], levels = seeds.map((pixel) => heights[pixel]), heap = [];
  const age = (entry) => Math.max(entry, seeds.length - 1);
  const isBefore = (a, b) => levels[a] < levels[b] || (levels[a] === levels[b] && age(a) < age(b));
  const push = (entry) => {
    let child = heap.push(entry) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!isBefore(entry, heap[parent])) break;
      heap[child] = heap[parent];
      child = parent;
    }
    heap[child] = entry;
  };
  const pop = () => {
    const first = heap[0], last = heap.pop();
    if (!heap.length) return first;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[parent] = heap[child];
      parent = child;
    }
    heap[parent] = last;
    return first;
  };
  for (let entry = 0; entry < seeds.length; entry++) push(entry);
  while (heap.length) {
    const entry = pop();
    for (const offset of offsets) {
      const other = pixels[entry] + offset;
      if (!inside[other] || labels[other]) continue;
      labels[other] = labels[pixels[entry]];
      levels.push(Math.max(heights[other], levels[entry]));
      push(pixels.push(other) - 1);
    }
  }
}

// Returns the exact distance of each pixel of a mask [H, W] to the nearest pixel outside of it; the border of the image
// does not count. Without a pixel outside, it is 0 everywhere.
function backgroundDistance(mask, width, height) {
  const far = width + height, rows = new Float64Array(mask.length), distance = new Float64Array(mask.length);
  if (mask.every(Boolean)) return distance;
  for (let x = 0; x < width; x++) {
    for (let y = 0, last = far; y < height; y++) rows[y * width + x] = last = mask[y * width + x] ? Math.min(last + 1, far) : 0;
    for (let y = height - 1, last = far; y >= 0; y--) {
      last = mask[y * width + x] ? Math.min(last + 1, far) : 0;
      rows[y * width + x] = Math.min(rows[y * width + x], last);
    }
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let best = rows[y * width + x] ** 2;
      for (let step = 1; step * step < best; step++) {
        if (x >= step) best = Math.min(best, step * step + rows[y * width + x - step] ** 2);
        if (x + step < width) best = Math.min(best, step * step + rows[y * width + x + step] ** 2);
      }
      distance[y * width + x] = Math.sqrt(best);
    }
  }
  return distance;
}
