// Draws images, outlines of cells and the histogram.

// Reads the ids of cells from a PNG: red + 256 green + 65,536 blue.
export async function loadIds(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error((await response.json()).error);
  const bitmap = await createImageBitmap(await response.blob(), {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const bytes = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const ids = new Int32Array(bitmap.width * bitmap.height);
  for (let i = 0; i < ids.length; i++) ids[i] = bytes[4 * i] | (bytes[4 * i + 1] << 8) | (bytes[4 * i + 2] << 16);
  return ids;
}

function rgb(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

// Draws the picture, the outline of each cell in the colour of its class, and a tint over selected cells.
export function drawCells(canvas, picture, ids, cells, selected, outline) {
  const {width, height} = picture;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  if (ids) {
    const image = context.getImageData(0, 0, width, height);
    const colours = cells.classes.map((one) => rgb(one.colour));
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const id = ids[i];
        if (!id) continue;
        const isEdge = (x > 0 && ids[i - 1] !== id) || (x + 1 < width && ids[i + 1] !== id)
          || (y > 0 && ids[i - width] !== id) || (y + 1 < height && ids[i + width] !== id);
        const isSelected = selected.has(id);
        if (!isEdge && !isSelected) continue;
        const colour = isSelected ? [255, 60, 60] : colours[cells.class_of[id - 1] - 1];
        const weight = isEdge ? 1 : 0.4;
        for (let c = 0; c < 3; c++) {
          image.data[4 * i + c] = weight * colour[c] + (1 - weight) * image.data[4 * i + c];
        }
      }
    }
    context.putImageData(image, 0, 0);
  }
  if (outline.length > 1) {
    context.strokeStyle = "#ff3c3c";
    context.lineWidth = Math.max(1, width / 600);
    context.beginPath();
    outline.forEach(([x, y]) => context.lineTo(x + 0.5, y + 0.5));
    context.stroke();
  }
}

// Draws a histogram of the areas of the cells.
export function drawHistogram(canvas, areas, pixelSize) {
  const context = canvas.getContext("2d");
  const {width, height} = canvas;
  context.clearRect(0, 0, width, height);
  if (!areas.length) return;
  const values = pixelSize ? areas.map((area) => area * pixelSize ** 2) : areas;
  const bins = 24, left = 30, bottom = height - 32;
  // The largest 1 % are all in the last bar, so that one clump does not hide the other cells.
  const sorted = [...values].sort((a, b) => a - b);
  const high = sorted[Math.floor(0.99 * (sorted.length - 1))] * 1.05 || 1;
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(value / high * bins))]++;
  const most = Math.max(...counts);
  context.fillStyle = "#2b6cb0";
  const step = (width - left - 8) / bins;
  counts.forEach((count, index) => {
    const size = count / most * (bottom - 12);
    context.fillRect(left + index * step, bottom - size, step - 1, size);
  });
  context.fillStyle = "#1c2530";
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  for (const part of [0, 0.5, 1]) context.fillText(Number((part * high).toPrecision(3)), left + part * (width - left - 24), bottom + 13);
  context.fillText(pixelSize ? "area, µm²" : "area, px", (left + width) / 2, height - 5);
  context.textAlign = "right";
  context.fillText(most, left - 4, 18);
  context.fillText("0", left - 4, bottom);
}
