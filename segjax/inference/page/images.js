// Reads images without changing their values: PNG of 8 and 16 bits, TIFF, and what the browser decodes, such as JPEG.
// An image is {pixels, width, height, channels} with interleaved channels, without alpha.

async function readImage(file) {
  try {
    return await readFile(file);
  } catch (error) {
    const isDamaged = error instanceof RangeError || error instanceof TypeError;
    throw isDamaged ? new Error(`${file.name} is damaged (${error.message}): copy the file again from its source`) : error;
  }
}

async function readFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer()), view = new DataView(bytes.buffer);
  const order = bytes.length > 8 ? String.fromCharCode(bytes[0], bytes[1]) : "";
  if (order === "II" || order === "MM") return readTiff(view, file.name);
  const isPng = bytes.length > 29 && view.getUint32(0) === 0x89504e47;
  // Palettes, fewer than 8 bits and interlaced files are left to the browser.
  if (isPng && bytes[24] >= 8 && bytes[25] !== 3 && bytes[28] === 0) return readPng(view, file.name);
  if (isPng && bytes[24] === 16) throw new Error(`${file.name} is an interlaced PNG of 16 bits: save it without interlacing`);
  return readByBrowser(file);
}

async function readByBrowser(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {colorSpaceConversion: "none", premultiplyAlpha: "none"});
  } catch {
    throw new Error(`${file.name} is no image that this page reads: give PNG, JPEG, WebP, or TIFF of one image`);
  }
  const {width, height} = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const {data} = context.getImageData(0, 0, width, height);
  let isGrey = true;
  for (let i = 0; i < data.length && isGrey; i += 4) isGrey = data[i] === data[i + 1] && data[i] === data[i + 2];
  return selectChannels({pixels: data, width, height, channels: 4}, isGrey ? 1 : 3);
}

// Returns an image with the first channels only.
function selectChannels(image, count) {
  const {pixels, channels} = image;
  if (count === channels) return image;
  const selected = new pixels.constructor(pixels.length / channels * count);
  for (let i = 0, out = 0; i < pixels.length; i += channels) for (let c = 0; c < count; c++) selected[out++] = pixels[i + c];
  return {...image, pixels: selected, channels: count};
}

// Converts between grey and colour where that loses nothing.
function matchChannels(image, channels) {
  const {pixels} = image;
  if (image.channels === channels) return image;
  if (image.channels === 1 && channels === 3) {
    const repeated = new pixels.constructor(3 * pixels.length);
    for (let i = 0; i < repeated.length; i++) repeated[i] = pixels[Math.floor(i / 3)];
    return {...image, pixels: repeated, channels: 3};
  }
  const isGrey = image.channels === 3 && pixels.every((value, i) => value === pixels[i - i % 3]);
  if (isGrey && channels === 1) return selectChannels(image, 1);
  throw new Error(`the image has ${image.channels} channels, but the network was trained on ${channels}: give an image of ${channels}`);
}

// Inflates a zlib stream.
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Expands the codes of TIFF's LZW, which have 9 to 12 bits, the most significant first.
function expandLzw(bytes) {
  const prefix = new Uint16Array(4096), last = new Uint8Array(4096), lengths = new Uint16Array(4096).fill(1, 0, 256);
  for (let code = 0; code < 256; code++) last[code] = code;
  let out = new Uint8Array(4 * bytes.length + 4096), size = 0, next = 258, bits = 9, previous = -1;
  for (let position = 0, buffer = 0, filled = 0; ;) {
    for (; filled < bits && position < bytes.length; filled += 8) buffer = buffer << 8 | bytes[position++];
    if (filled < bits) return out.subarray(0, size);
    filled -= bits;
    const code = buffer >> filled & (1 << bits) - 1;
    if (code === 257) return out.subarray(0, size);
    if (code === 256) {
      next = 258, bits = 9, previous = -1;
      continue;
    }
    if (code > next || (code === next && previous < 0)) throw new RangeError("a code of LZW is not defined");
    // A code that is defined only now stands for the previous string and its first byte.
    let part = code < next ? code : previous;
    const end = size + lengths[part];
    if (end + 1 > out.length) {
      const larger = new Uint8Array(2 * out.length);
      larger.set(out);
      out = larger;
    }
    for (let at = end - 1; at >= size; at--, part = prefix[part]) out[at] = last[part];
    const first = out[size];
    size = end;
    if (code === next) out[size++] = first;
    if (previous >= 0 && next < 4096) {
      prefix[next] = previous, last[next] = first, lengths[next] = lengths[previous] + 1;
      next++;
    }
    if (next + 1 >= 1 << bits && bits < 12) bits++;
    previous = code;
  }
}

async function readPng(view, name) {
  const parts = [];
  let isComplete = false;
  for (let start = 8; start + 12 <= view.byteLength && !isComplete;) {
    const length = view.getUint32(start), type = view.getUint32(start + 4);
    if (type === 0x49444154) parts.push(new Uint8Array(view.buffer, start + 8, Math.min(length, view.byteLength - start - 8)));
    isComplete = type === 0x49454e44;
    start += 12 + length;
  }
  if (!isComplete) throw new Error(`${name} ends too early: copy the file again from its source`);
  const width = view.getUint32(16), height = view.getUint32(20), size = view.getUint8(24) / 8;
  const channels = {0: 1, 2: 3, 4: 2, 6: 4}[view.getUint8(25)], depth = channels * size, stride = width * depth;
  const raw = await inflate(new Blob(parts));
  if (raw.length < height * (stride + 1)) throw new Error(`${name} has fewer pixels than it states: copy the file again`);
  const bytes = new Uint8Array(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)], source = y * (stride + 1) + 1, row = y * stride;
    for (let x = 0; x < stride; x++) {
      const left = x >= depth ? bytes[row + x - depth] : 0, above = y ? bytes[row + x - stride] : 0;
      const corner = x >= depth && y ? bytes[row + x - depth - stride] : 0;
      bytes[row + x] = raw[source + x] + [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
    }
  }
  let pixels = bytes;
  if (size === 2) {
    const values = new DataView(bytes.buffer);
    pixels = Uint16Array.from({length: bytes.length / 2}, (_, i) => values.getUint16(2 * i));
  }
  return selectChannels({pixels, width, height, channels}, channels < 3 ? 1 : 3);
}

function paeth(left, above, corner) {
  const toLeft = Math.abs(above - corner), toAbove = Math.abs(left - corner), toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

// Array and getter of the pixels of a TIFF, by bits and sample format.
const TIFF_TYPES = {
  "8 1": [Uint8Array, "getUint8"],
  "16 1": [Uint16Array, "getUint16"],
  "32 1": [Uint32Array, "getUint32"],
  "16 2": [Int16Array, "getInt16"],
  "32 3": [Float32Array, "getFloat32"],
};

// Reads a TIFF of one image, not compressed or with Deflate or LZW, of 8, 16 or 32 bits.
async function readTiff(view, name) {
  const isLittle = view.getUint8(0) === 0x49;
  const remedy = "save it as TIFF of one image, without compression or with Deflate or LZW, or as PNG";
  const refuse = (reason) => new Error(`${name} ${reason}: ${remedy}`);
  if (view.getUint16(2, isLittle) !== 42) throw refuse("is no TIFF, or a BigTIFF");
  const tags = new Map(), start = view.getUint32(4, isLittle), count = view.getUint16(start, isLittle);
  for (let entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
    const size = {1: 1, 3: 2, 4: 4}[view.getUint16(entry + 2, isLittle)], length = view.getUint32(entry + 4, isLittle);
    if (!size) continue;
    const from = length * size <= 4 ? entry + 8 : view.getUint32(entry + 8, isLittle);
    const getter = {1: "getUint8", 2: "getUint16", 4: "getUint32"}[size], read = (position) => view[getter](position, isLittle);
    tags.set(view.getUint16(entry, isLittle), Array.from({length}, (_, i) => read(from + i * size)));
  }
  const get = (tag, otherwise) => tags.get(tag)?.[0] ?? otherwise;
  const width = get(256), height = get(257), channels = get(277, 1), bits = get(258, 1), format = get(339, 1);
  const compression = get(259, 1), predictor = get(317, 1), isTiled = tags.has(322);
  if (view.getUint32(start + 2 + 12 * count, isLittle)) throw refuse("holds several images");
  if (![1, 2].includes(get(262))) throw refuse("has a palette or other colours");
  if (![1, 5, 8, 32946].includes(compression) || ![1, 2].includes(predictor)) throw refuse("is compressed in a way that this page does not read");
  if (get(274, 1) !== 1 || get(284, 1) !== 1) throw refuse("is rotated, or stores channels apart");
  const kind = TIFF_TYPES[`${bits} ${format}`];
  if (!kind || tags.get(258).some((other) => other !== bits)) throw refuse(`has ${bits} bits of a type that this page does not read`);
  // The differences of floats are those of their bits, as libtiff writes them.
  const isBits = format === 3 && predictor === 2;
  const [Type, getter] = isBits ? TIFF_TYPES[`${bits} 1`] : kind, tileWidth = get(322, width), tileHeight = isTiled ? get(323) : Math.min(get(278, height), height);
  const offsets = tags.get(isTiled ? 324 : 273), lengths = tags.get(isTiled ? 325 : 279), across = Math.ceil(width / tileWidth);
  const stored = new Type(width * height * channels);
  for (let tile = 0; tile < offsets.length; tile++) {
    const part = new Uint8Array(view.buffer, offsets[tile], lengths[tile]);
    const bytes = compression === 1 ? part : compression === 5 ? expandLzw(part) : await inflate(part);
    const values = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const top = Math.floor(tile / across) * tileHeight, left = (tile % across) * tileWidth;
    for (let y = 0; y < tileHeight && top + y < height; y++) {
      const row = y * tileWidth * channels, target = ((top + y) * width + left) * channels;
      for (let x = 0; x < Math.min(tileWidth, width - left) * channels; x++) {
        const value = values[getter]((row + x) * bits / 8, isLittle);
        // Differences wrap around, as the type of the pixels does.
        stored[target + x] = predictor === 2 && x >= channels ? value + stored[target + x - channels] : value;
      }
    }
  }
  const pixels = isBits ? new Float32Array(stored.buffer) : stored;
  if (format === 3 && !pixels.every(Number.isFinite)) throw new Error(`${name} holds NaN or infinite pixels: replace them`);
  const hasAlpha = [1, 2].includes(get(338, 0)) && tags.get(338).length === 1;
  return selectChannels({pixels, width, height, channels}, hasAlpha ? channels - 1 : channels);
}

// Returns 8-bit RGBA for display: from the 0.5th percentile to the 99.8th. Three channels are red, green and blue and
// keep their proportions; others are stretched on their own, and the square root of their mean is shown.
function displayedPixels(image) {
  const isColour = image.channels === 3;
  const stretched = normaliseImage(isColour ? {...image, channels: 1} : image, [0.5, 99.8]).pixels;
  const picture = new Uint8ClampedArray(image.width * image.height * 4), clip = (value) => Math.min(Math.max(value, 0), 1);
  for (let i = 0; i < picture.length / 4; i++) {
    let sum = 0;
    for (let c = 0; c < image.channels; c++) sum += Math.sqrt(clip(stretched[i * image.channels + c]));
    for (let c = 0; c < 3; c++) picture[4 * i + c] = 255 * (isColour ? clip(stretched[3 * i + c]) : sum / image.channels);
    picture[4 * i + 3] = 255;
  }
  return picture;
}
