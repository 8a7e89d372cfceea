// Files that the page writes.

// Writes labels as a TIFF of 16 bits, or of 32 above 65,535 cells.
function labelTiff(labels, width, height, count) {
  const bits = count < 65536 ? 16 : 32, bytes = new Uint8Array(8 + 2 + 10 * 12 + 4 + labels.length * bits / 8);
  const view = new DataView(bytes.buffer), data = bytes.length - labels.length * bits / 8;
  view.setUint32(0, 0x49492a00);
  view.setUint32(4, 8, true);
  view.setUint16(8, 10, true);
  // Size, bits, no compression, 0 is black, one strip of all rows, unsigned integers.
  const tags = [
    [256, width], [257, height], [258, bits], [259, 1], [262, 1], [273, data], [277, 1], [278, height],
    [279, bytes.length - data], [339, 1],
  ];
  tags.forEach(([tag, value], index) => {
    view.setUint16(10 + 12 * index, tag, true);
    view.setUint16(12 + 12 * index, 4, true);
    view.setUint32(14 + 12 * index, 1, true);
    view.setUint32(18 + 12 * index, value, true);
  });
  for (let i = 0; i < labels.length; i++) {
    if (bits === 16) view.setUint16(data + 2 * i, labels[i], true);
    else view.setUint32(data + 4 * i, labels[i], true);
  }
  return bytes;
}

// Writes a table of the cells; positions are those of pixel centres, from 0.
function cellTable(cells, classNames) {
  const rows = cells.map(({id, class: index, area, x, y, score}) => (
    [id, classNames[index], area, x.toFixed(2), y.toFixed(2), score.toFixed(4)].map(quoted).join(",")));
  return ["id,class,area_px,centroid_x_px,centroid_y_px,score", ...rows].join("\r\n") + "\r\n";
}

// Text as a cell of a table that spreadsheets do not take for a formula.
function quoted(value) {
  const text = String(value), safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
