"""Plants every kind of damage that files can have into a healthy folder of PNG images and masks."""

import zlib

import numpy as np
from PIL import Image
from scipy import ndimage


def read(path):
    return np.asarray(Image.open(path))


def write(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def plant(images, masks, names):
    """Damages one image or mask after the other, in place.

    Args:
      images: folder of `<name>.png`, at least 60 x 60 pixels, uint8 with 3 channels or one.
      masks: folder of `<name>.png`, uint16, each with at least four cells.
      names: of healthy pairs, of which the first are damaged; more than there are kinds.

    Returns:
      The kind of finding that has to be made of each that was damaged, by name.
    """
    names = iter(names)
    kinds = {}
    rng = np.random.default_rng(0)

    def damaged(kind):
        name = next(names)
        kinds[name] = kind
        return images / f"{name}.png", masks / f"{name}.png"

    image, _ = damaged("empty_file")
    image.write_bytes(b"")
    image, _ = damaged("truncated")
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    image, _ = damaged("unreadable")
    image.write_text("an image of cells")
    image, _ = damaged("too_large")
    huge = bytearray(image.read_bytes())
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    image.write_bytes(bytes(huge))
    image, _ = damaged("constant")
    write(image, np.full_like(read(image), 7))
    image, mask = damaged("saturated")
    pixels = read(image).copy()
    pixels[read(mask) > 0] = 255
    write(image, pixels)
    image, _ = damaged("blurred")
    sigma = (8, 8, 0)[: read(image).ndim]
    write(image, ndimage.gaussian_filter(read(image).astype(float), sigma).astype(np.uint8))
    image, _ = damaged("alpha_only")
    pixels = read(image)
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    write(image, np.dstack([np.zeros((*grey.shape, 3), np.uint8), grey]))
    image, _ = damaged("not_finite")
    pixels = read(image).astype(np.float32)
    pixels[3, 3] = np.nan
    np.save(image.with_suffix(".npy"), pixels)
    image.unlink()
    _, mask = damaged("size_mismatch")
    write(mask, read(mask)[:, :-1])
    _, mask = damaged("missing_mask")
    mask.unlink()
    _, mask = damaged("missing_image")
    (images / mask.name).unlink()
    _, mask = damaged("empty_mask")
    write(mask, np.zeros_like(read(mask)))
    _, mask = damaged("binary_mask")
    write(mask, ((ndimage.binary_erosion(read(mask) > 0)) * 255).astype(np.uint8))
    _, mask = damaged("lossy_mask")
    grey = (read(mask) % 200).astype(np.uint8)
    write(mask.with_suffix(".jpg"), grey, quality=60)
    mask.unlink()
    _, mask = damaged("inverted_mask")
    labels = read(mask)
    inverted = np.zeros_like(labels)
    inverted[labels == 0] = 1
    write(mask, inverted)
    _, mask = damaged("background_id")
    write(mask, (read(mask) + 1).astype(np.uint16))
    _, mask = damaged("id_gaps")
    write(mask, (read(mask).astype(np.int32) * 7).astype(np.uint16))
    _, mask = damaged("disconnected_instances")
    labels = read(mask).copy()
    first, second = [index for index in np.argsort(-np.bincount(labels.ravel())) if index][:2]
    labels[labels == second] = first
    write(mask, labels)
    _, mask = damaged("fragments")
    labels = read(mask).copy()
    largest = np.bincount(labels.ravel(), minlength=2)[1:].argmax() + 1
    free = np.argwhere(ndimage.uniform_filter((labels == 0).astype(float), 5) > 0.999)
    y, x = free[rng.integers(len(free))]
    labels[y, x] = largest
    write(mask, labels)
    _, mask = damaged("stray_pixels")
    labels = read(mask).copy()
    free = np.argwhere(ndimage.uniform_filter((labels == 0).astype(float), 5) > 0.999)
    y, x = free[rng.integers(len(free))]
    labels[y, x] = labels.max() + 1
    write(mask, labels)
    image, mask = damaged("duplicate")
    other = next(names)
    image.write_bytes((images / f"{other}.png").read_bytes())
    mask.write_bytes((masks / f"{other}.png").read_bytes())
    # Of two copies that with the later name goes.
    if image.stem < other:
        kinds[other] = kinds.pop(image.stem)
    image, mask = damaged("near_duplicate")
    other = next(names)
    brighter = np.rot90(read(images / f"{other}.png")).astype(float) * 0.9 + 9
    write(image, np.ascontiguousarray(brighter.astype(np.uint8)))
    write(mask, np.ascontiguousarray(np.rot90(read(masks / f"{other}.png"))))
    kinds[other] = "near_duplicate"
    image, _ = damaged("unusual_channels")
    pixels = read(image)
    if pixels.ndim == 2:
        write(image, np.dstack([pixels, pixels // 2, pixels]))
    else:
        write(image, pixels[..., 0])
    return kinds
