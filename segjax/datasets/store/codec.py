"""The stored form of a record: a TFDS feature dictionary, with pixels as TIFF."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
import tensorflow_datasets as tfds
import tifffile

from segjax.data.records import Record
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import map_classes

# TIFF tags, and their values in a file with one zstd strip and horizontal differencing.
WIDTH, HEIGHT, CHANNELS, STRIP_OFFSET, STRIP_BYTES = 256, 257, 277, 273, 279
STORED = {259: (1, 50000), 317: (1, 2)}
DTYPES = {1: np.uint8, 2: np.uint16, 4: np.int32}


def features() -> tfds.features.FeaturesDict:
    """Returns the feature dictionary that all data sets have in common.

    Pixels are TIFF files inside bytes: `tfds.features.Image` cannot hold 16 bits without TensorFlow.
    """
    return tfds.features.FeaturesDict(
        {
            "name": tfds.features.Text(),
            "group": tfds.features.Text(),
            "image": tfds.features.Text(doc="TIFF, [H, W, C] uint8, uint16 or float32"),
            "labels": tfds.features.Text(doc="TIFF, [H, W] int32, 0 is background"),
            "semantic": tfds.features.Text(doc="TIFF, [H, W] int32, empty where classes[labels] says it all"),
            "classes": tfds.features.Tensor(shape=(None,), dtype=np.int32, doc="of instance i + 1"),
            "scores": tfds.features.Tensor(shape=(None,), dtype=np.float32, doc="of instance i + 1"),
            # Decimal text, because tf.train.Example would round it to float32.
            "pixel_size": tfds.features.Text(doc="micrometres, empty where unknown"),
        }
    )


def encode(record: Record) -> dict[str, Any]:
    """Encodes a record as an example of `features()`."""
    truth = record.truth
    is_redundant = np.array_equal(truth.class_map, truth.semantic)
    return {
        "name": record.name,
        "group": record.group,
        "image": encode_tiff(record.image),
        "labels": encode_tiff(truth.labels[..., None]),
        "semantic": b"" if is_redundant else encode_tiff(truth.semantic[..., None]),
        "classes": truth.classes,
        "scores": truth.scores,
        "pixel_size": "" if record.pixel_size is None else repr(float(record.pixel_size)),
    }


def decode(example: Mapping[str, Any]) -> Record:
    """Decodes an example of `features()` to the original record, bit for bit."""
    labels = decode_tiff(example["labels"])[..., 0]
    classes = np.asarray(example["classes"], np.int32)
    semantic = example["semantic"]
    pixel_size = as_text(example["pixel_size"])
    return Record(
        name=as_text(example["name"]),
        group=as_text(example["group"]),
        image=decode_tiff(example["image"]),
        truth=Segmentation(
            labels,
            classes,
            np.asarray(example["scores"], np.float32),
            decode_tiff(semantic)[..., 0] if semantic else map_classes(labels, classes),
        ),
        pixel_size=float(pixel_size) if pixel_size else None,
    )


def encode_tiff(pixels: np.ndarray) -> bytes:
    """Encodes [H, W, C] as a TIFF of one page with C samples per pixel."""
    single = pixels.shape[-1] == 1
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels[..., 0] if single else pixels,
        photometric="minisblack",
        planarconfig=None if single else "contig",
        rowsperstrip=pixels.shape[0],
        compression="zstd",  # as small as zlib, and decoded in half the time
        predictor=True,  # neighbouring pixels are similar
        metadata=None,
        maxworkers=1,
    )
    return file.getvalue()


def decode_tiff(content: bytes) -> np.ndarray:
    """Decodes a TIFF of one page to [H, W, C].

    The integer files of `encode_tiff` are decoded here, because this is on the path of every training step:
    `tifffile.TiffFile` takes a quarter longer and holds the GIL meanwhile, `imagecodecs.tiff_decode` takes
    half as long again. Every other TIFF goes through tifffile.
    """
    tags = _read_tags(content)
    if STORED.items() <= tags.items() and tags[STRIP_OFFSET][0] == 1:
        start, size = tags[STRIP_OFFSET][1], tags[STRIP_BYTES][1]
        shape = tuple(tags[tag][1] for tag in (HEIGHT, WIDTH, CHANNELS))
        raw = imagecodecs.zstd_decode(content[start : start + size])
        dtype = DTYPES[len(raw) // math.prod(shape)]
        return imagecodecs.delta_decode(np.frombuffer(raw, dtype).reshape(shape), axis=1)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        return page.asarray(maxworkers=1).reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def shape_of(content: bytes) -> tuple[int, int, int]:
    """Returns the shape [H, W, C] of a TIFF of one page without decoding its pixels."""
    tags = _read_tags(content)
    if {HEIGHT, WIDTH, CHANNELS} <= tags.keys():
        return tags[HEIGHT][1], tags[WIDTH][1], tags[CHANNELS][1]
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        return page.imagelength, page.imagewidth, page.samplesperpixel


def _read_tags(content: bytes) -> dict[int, tuple[int, int]]:
    """Returns the count and the value (or offset of the values) of each tag of a little-endian TIFF."""
    if content[:4] != b"II*\0":
        return {}
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = struct.iter_unpack("<HHII", content[start + 2 : start + 2 + 12 * count])
    return {tag: (length, value) for tag, _, length, value in entries}


def as_text(value: str | bytes) -> str:
    """TFDS returns text features as bytes."""
    return value.decode() if isinstance(value, bytes) else value
