"""PNG, JPEG, BMP and WebP files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import imagecodecs
import numpy as np
from absl import logging
from PIL import Image
from PIL.ImageFile import ImageFile

from segjax.data.channels import without_alpha
from segjax.data.readers.limits import MAX_PIXELS, File, Request, check_memory, check_size, fewer_pixels
from segjax.data.readers.orientation import ORIENTATION, upright

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")
# Pixels for each byte of a file: a PNG of one bit packs up to 8 x 1032. WebP packs more, but has at most
# 2^28 pixels.
MAX_RATIO = 2**14
# Pillow multiplies grey values of fewer than 8 bits by these, so that the largest is 255.
SCALES = {"L;2": 85, "L;4": 17}

# `open_picture` checks the size, with bounds that depend on the memory.
Image.MAX_IMAGE_PIXELS = None


@contextmanager
def open_picture(path: File, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens a picture whose decoded pixels fit into memory; it is not decoded yet.

    Raises:
      InputError: if it declares too many pixels, or more than a file of its length can hold.
    """
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        check_size(path, height, width, max_pixels)
        # Pillow stores RGB in four bytes.
        check_memory(path, height * width * (1 if picture.mode in ("1", "L", "P") else 4))
        position = file.tell()
        length = file.seek(0, os.SEEK_END)
        file.seek(position)
        if picture.format != "WEBP" and height * width > MAX_RATIO * length:
            raise fewer_pixels(path, height, width)
        yield picture


def read_picture(path: File, request: Request) -> np.ndarray:
    """Reads a picture upright, by the orientation that its EXIF data state.

    Returns:
      [H, W, C] of the stored type. Alpha is dropped and palette indices become colours, except in labels.
    """
    with open_picture(path, max_pixels=request.max_pixels) as picture:
        if others := further_frames(picture):
            logging.warning("%s holds %s", path, others)
        tiles = picture.tile if isinstance(picture, ImageFile) else []
        scale = SCALES.get(str(tiles[0].args), 1) if request.as_labels and tiles else 1
        # Pillow silently truncates 16-bit colours to 8 bits.
        if picture.format == "PNG" and picture.mode in ("RGB", "RGBA", "LA"):
            pixels = imagecodecs.png_decode(path.read_bytes())
        elif picture.mode in PLAIN_MODES or (request.as_labels and picture.mode == "P"):
            pixels = np.asarray(picture)
        else:  # palettes, CMYK, YCbCr and the like
            # Pillow warns where it drops the alpha of several indices itself.
            mode = "RGBA" if isinstance(picture.info.get("transparency"), bytes) else "RGB"
            pixels = np.asarray(picture.convert(mode))[..., :3]
        orientation = _orientation(picture)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] in (2, 4):
        pixels = without_alpha(pixels, as_labels=request.as_labels)
    return upright(pixels // scale if scale > 1 else pixels, orientation)


def _orientation(picture: Image.Image) -> object:
    """Returns what the EXIF data state, after the pixels are read: in a PNG they may follow the pixels."""
    try:
        return picture.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data do not make the image unusable
        return None


def palette_alpha(path: File) -> np.ndarray | None:
    """Returns the alpha of each index of a palette picture, [256] uint8; None if it states none."""
    with open_picture(path) as picture:
        transparent = picture.info.get("transparency")
    if transparent is None:
        return None
    alpha = np.full(256, 255, np.uint8)
    if isinstance(transparent, bytes):
        alpha[: len(transparent)] = list(transparent)
    else:
        alpha[transparent] = 0
    return alpha


def further_frames(picture: Image.Image) -> str | None:
    """Returns what a picture of several frames holds beside the first, which is read; None for one frame."""
    frames = getattr(picture, "n_frames", 1)
    return f"{frames} images, of which the first is read" if frames > 1 else None


def is_lossy_webp(path: File) -> bool:
    """Returns whether a WebP file holds a chunk of lossy pixels, `VP8 `."""
    with path.open("rb") as file:
        if file.read(12)[8:] != b"WEBP":
            return False
        while len(header := file.read(8)) == 8:
            name, length = header[:4], int.from_bytes(header[4:], "little")
            if name == b"VP8 ":
                return True
            # The frames of an animation are chunks inside a chunk, after 16 bytes.
            file.seek(16 if name == b"ANMF" else length + length % 2, os.SEEK_CUR)
    return False
