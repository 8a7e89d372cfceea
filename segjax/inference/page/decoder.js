// Makes cells of the maps of a network, as segjax.tasks.semantic and segjax.representations do.

// How instances are separated, by the name of the representation: (foreground, values, width, height, settings) ->
// labels [H, W], whose ids may have gaps. `settings` are those of segjax.representations.DecoderConfig.
const DECODERS = {
  components: (foreground, values, width, height) =>
    unframe(labelParts(frame(foreground, width, height, 0), sideOffsets(width)).labels, width, height),
  boundary: decodeBoundary,
  distance: decodeHeights,
  poisson: decodeHeights,
  flows: decodeFlows,
};

// Separates the cells of an image.
//
// maps: `classes`, probabilities [H, W, K] float32, and `values`, the map of the representation, float32.
// network: class_names, instances, decoder, foreground_threshold, min_area and min_fraction, as segjax export writes them.
// Returns labels [H, W] with ids 1, 2, ... and the class and the mean probability of each id.
function segment(maps, width, height, network) {
  const numClasses = network.class_names.length;
  const semantic = classOfPixels(maps.classes, numClasses, network.foreground_threshold);
  const labels = new Int32Array(width * height), classes = [];
  for (let index = 1; index < numClasses; index++) {
    const foreground = Uint8Array.from(semantic, (one) => (one === index ? 1 : 0));
    let instances = DECODERS[network.instances](foreground, maps.values, width, height, network.decoder);
    instances = removeSmall(instances, network.min_area[Math.min(index, network.min_area.length) - 1]);
    if (network.min_fraction) {
      instances = removeSmall(instances, roundEven(network.min_fraction * typicalArea(countPixels(instances))));
    }
    const first = classes.length;
    for (let i = 0; i < labels.length; i++) if (instances[i]) labels[i] = instances[i] + first;
    for (let id = countPixels(instances).length - 1; id > 0; id--) classes.push(index);
  }
  return {labels, classes, scores: meanProbabilities(maps.classes, numClasses, labels, classes)};
}

function classOfPixels(probabilities, numClasses, threshold) {
  const semantic = new Uint8Array(probabilities.length / numClasses);
  // Without a threshold, the background takes part in the choice.
  const first = threshold === null ? 0 : 1;
  const most = Math.fround(1 - threshold);
  for (let i = 0, start = 0; i < semantic.length; i++, start += numClasses) {
    if (threshold !== null && probabilities[start] > most) continue;
    let best = first;
    for (let k = first + 1; k < numClasses; k++) if (probabilities[start + k] > probabilities[start + best]) best = k;
    semantic[i] = best;
  }
  return semantic;
}

// Floods a map with one peak per cell from its h-maxima.
function decodeHeights(foreground, values, width, height, {smoothing, h}) {
  const smooth = gaussian(Float64Array.from(values), width, height, [smoothing, smoothing]);
  const inside = frame(foreground, width, height, 0), offsets = allOffsets(width);
  const heights = frame(smooth, width, height, -Infinity);
  for (let i = 0; i < heights.length; i++) if (!inside[i]) heights[i] = -Infinity;
  const raised = reconstruct(heights.map((value) => value - h), heights, inside, offsets);
  const peaks = labelParts(regionalMaxima(raised, inside, offsets), offsets).labels;
  return unframe(floodParts(heights, peaks, inside, offsets), width, height);
}

// Grows the connected regions inside the boundaries.
function decodeBoundary(foreground, values, width, height, {smoothing, threshold}) {
  const distance = backgroundDistance(foreground, width, height);
  const heights = frame(gaussian(distance, width, height, [smoothing, smoothing]), width, height, -Infinity);
  const inside = frame(foreground, width, height, 0), offsets = allOffsets(width);
  const isSeed = Uint8Array.from(foreground, (one, i) => (one && values[i] < Math.fround(threshold) ? 1 : 0));
  const {labels: seeds, count} = labelParts(frame(isSeed, width, height, 0), offsets);
  const {labels: parts} = labelParts(inside, offsets);
  const hasSeed = new Set();
  for (let i = 0; i < seeds.length; i++) if (seeds[i]) hasSeed.add(parts[i]);
  for (let i = 0; i < seeds.length; i++) if (parts[i] && !hasSeed.has(parts[i])) seeds[i] = parts[i] + count;
  return unframe(floodParts(heights, seeds, inside, offsets), width, height);
}

// Floods each connected part of a foreground downhill from its markers; all maps are framed.
function floodParts(heights, markers, inside, offsets) {
  const {labels: parts, count} = labelParts(inside, offsets);
  const seeds = Array.from({length: count + 1}, () => []), depths = heights.map((value) => -value);
  for (let i = 0; i < markers.length; i++) if (markers[i] && parts[i]) seeds[parts[i]].push(i);
  const labels = Int32Array.from(markers, (marker, i) => (parts[i] ? marker : 0));
  for (const part of seeds) flood(depths, labels, inside, part, offsets);
  return labels;
}

// Follows the flow from each pixel and clusters the ends.
function decodeFlows(foreground, flow, width, height, {smoothing, density, steps}) {
  const ends = followFlow(foreground, flow, width, height, steps);
  const counts = new Float64Array(foreground.length);
  for (let i = 0; i < ends.length; i++) if (foreground[i]) counts[ends[i]]++;
  const heights = frame(gaussian(counts, width, height, [smoothing, smoothing], "constant"), width, height, -Infinity);
  const isDense = Uint8Array.from(heights, (value) => (value > density ? 1 : 0));
  const basins = labelParts(regionalMaxima(heights, isDense, allOffsets(width)), allOffsets(width)).labels;
  const seeds = [];
  for (let i = 0; i < basins.length; i++) if (basins[i]) seeds.push(i);
  const inside = Uint8Array.from(heights, (value) => (value > 0 ? 1 : 0));
  flood(heights.map((value) => -value), basins, inside, seeds, sideOffsets(width));
  const basinOf = unframe(basins, width, height);
  return Int32Array.from(ends, (end, i) => (foreground[i] ? basinOf[end] : 0));
}

// In so many steps, a position that is still on its way moves by more than a quarter of them, and farther away from
// where it was before.
const LAST_STEPS = 50;

// Returns the index of the pixel at which each pixel of the foreground ends, after Euler steps of one pixel, at least
// as many as `steps`. Positions that are still on their way go on.
function followFlow(foreground, flow, width, height, steps) {
  const inner = flow.map((value, i) => (foreground[i >> 1] ? value : 0));
  const ends = new Int32Array(foreground.length), position = new Float32Array(2);
  const lastRow = height - 1, lastColumn = width - 1;
  const block = Math.min(steps, LAST_STEPS), furthest = 4 * (width + height);
  const limit = steps + block * Math.ceil(Math.max(furthest - steps, 0) / block);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!foreground[i]) continue;
      position[0] = y;
      position[1] = x;
      let before = [y, x], start = before, reached = 0;
      for (let step = 0; step < limit; step++) {
        if (step >= steps - block && (step - steps) % block === 0) {
          const [moved, total] = [before, start].map((old) => Math.hypot(position[0] - old[0], position[1] - old[1]));
          if (step >= steps && (moved <= block / 4 || total <= reached)) break;
          if (step >= steps) reached = total;
          else start = [...position];
          before = [...position];
        }
        const row = Math.min(Math.floor(position[0]), Math.max(lastRow - 1, 0));
        const column = Math.min(Math.floor(position[1]), Math.max(lastColumn - 1, 0));
        const down = position[0] - row, along = position[1] - column;
        const upper = 2 * (row * width + column), lower = upper + (row < lastRow ? 2 * width : 0);
        const right = column < lastColumn ? 2 : 0;
        for (let axis = 0; axis < 2; axis++) {
          const above = (1 - along) * inner[upper + axis] + along * inner[upper + right + axis];
          const below = (1 - along) * inner[lower + axis] + along * inner[lower + right + axis];
          const moved = position[axis] + (1 - down) * above + down * below;
          position[axis] = Math.min(Math.max(moved, 0), axis ? lastColumn : lastRow);
        }
      }
      ends[i] = roundEven(position[0]) * width + roundEven(position[1]);
    }
  }
  return ends;
}

// Returns the number of pixels of each id from 0.
function countPixels(labels) {
  const counts = [0];
  for (let i = 0; i < labels.length; i++) {
    while (counts.length <= labels[i]) counts.push(0);
    counts[labels[i]]++;
  }
  return counts;
}

// Removes instances of fewer pixels and numbers the others 1, 2, ... in the same order.
function removeSmall(labels, minArea) {
  let next = 0;
  const numbers = countPixels(labels).map((area, id) => (id > 0 && area >= Math.max(minArea, 1) ? ++next : 0));
  return labels.map((id) => numbers[id]);
}

// Returns the area-weighted median of areas, whose index is the id.
function typicalArea(counts) {
  const areas = counts.slice(1).filter((area) => area > 0).sort((a, b) => a - b);
  const half = areas.reduce((sum, area) => sum + area, 0) / 2;
  let cumulative = 0;
  return areas.find((area) => (cumulative += area) >= half) ?? 0;
}

// Returns the median diameter of the circles with the areas of the cells; 0 without a cell.
function typicalDiameter(labels) {
  const areas = countPixels(labels).slice(1).filter((area) => area > 0).sort((a, b) => a - b);
  if (!areas.length) return 0;
  const diameters = areas.map((area) => Math.sqrt(area * 4 / Math.PI)), half = areas.length >> 1;
  return areas.length % 2 ? diameters[half] : (diameters[half - 1] + diameters[half]) / 2;
}

function meanProbabilities(probabilities, numClasses, labels, classes) {
  const sums = new Float64Array(classes.length), counts = countPixels(labels);
  for (let i = 0; i < labels.length; i++) {
    if (labels[i]) sums[labels[i] - 1] += probabilities[i * numClasses + classes[labels[i] - 1]];
  }
  return Array.from(sums, (sum, index) => sum / counts[index + 1]);
}
