"""Annotated images: the record type, the source protocol and the on-disk encoding."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import imagecodecs
import numpy as np
import tensorflow_datasets as tfds
import tifffile

from segjax.segmentation import Segmentation

# Tags of TIFF.
WIDTH, LENGTH, COMPRESSION, STRIP_OFFSETS, SAMPLES, STRIP_BYTES = 256, 257, 259, 273, 277, 279
PREDICTOR, SAMPLE_FORMAT = 317, 339
IMAGE_DTYPES = (np.uint8, np.uint16, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One image with its truth, as it was acquired and annotated: nothing is normalised or resized.

    Attributes:
      name: unique within its data set, fit for a file name.
      group: patient, acquisition or similar; images of one group never end up in different splits. Unique
        among all data sets.
      image: [H, W, C] uint8, uint16 or float32.
      truth: the annotation, [H, W].
      pixel_size: side of a pixel in micrometres, None where unknown.

    Raises:
      ValueError: if the image has another type or rank, or another size than the truth.
    """

    name: str
    group: str
    image: np.ndarray
    truth: Segmentation
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.dtype not in IMAGE_DTYPES:
            raise ValueError(
                f"{self.name}: an image is [H, W, C] of uint8, uint16 or float32, not {self.image.dtype} of"
                f" shape {self.image.shape}"
            )
        if self.image.shape[:2] != self.truth.shape:
            raise ValueError(
                f"{self.name}: the image is {self.image.shape[:2]} but its truth {self.truth.shape}; export"
                " the mask again from the image it was drawn on"
            )


class Source(Protocol):
    """Random access to the records of one split of a data set.

    Attributes:
      class_names: names of class 0 (background), 1, ...
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def features() -> tfds.features.FeaturesDict:
    """The one feature dictionary of all data sets.

    Pixels travel as TIFF files inside bytes: `tfds.features.Image` cannot hold 16 bits without TensorFlow.
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
    """Encodes a record as a `features()` example."""
    truth = record.truth
    painted = np.take(np.concatenate([np.zeros(1, np.int32), truth.classes]), truth.labels)
    return {
        "name": record.name,
        "group": record.group,
        "image": _to_tiff(record.image),
        "labels": _to_tiff(truth.labels[..., None]),
        "semantic": b"" if np.array_equal(painted, truth.semantic) else _to_tiff(truth.semantic[..., None]),
        "classes": truth.classes,
        "scores": truth.scores,
        "pixel_size": "" if record.pixel_size is None else repr(float(record.pixel_size)),
    }


def decode(example: Mapping[str, Any]) -> Record:
    """Decodes a `features()` example to the original record, bit for bit."""
    labels = _from_tiff(example["labels"])[..., 0]
    classes = np.asarray(example["classes"], np.int32)
    if example["semantic"]:
        semantic = _from_tiff(example["semantic"])[..., 0]
    else:
        semantic = np.take(np.concatenate([np.zeros(1, np.int32), classes]), labels)
    pixel_size = _text(example["pixel_size"])
    return Record(
        name=_text(example["name"]),
        group=_text(example["group"]),
        image=_from_tiff(example["image"]),
        truth=Segmentation(labels, classes, np.asarray(example["scores"], np.float32), semantic),
        pixel_size=float(pixel_size) if pixel_size else None,
    )


def _to_tiff(pixels: np.ndarray) -> bytes:
    """Packs [H, W, C] into a TIFF of one page with C samples for each pixel."""
    single = pixels.shape[-1] == 1
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels[..., 0] if single else pixels,
        photometric="minisblack",
        planarconfig=None if single else "contig",
        rowsperstrip=pixels.shape[0],
        compression="zstd",  # as small as zlib, and decoded in half the time
        predictor=True,  # neighbouring pixels are alike
        metadata=None,
        maxworkers=1,
    )
    return file.getvalue()


def _from_tiff(content: bytes) -> np.ndarray:
    """The pixels [H, W, C] of a TIFF of one page.

    What `_to_tiff` writes is unpacked here: tifffile, made for everything that calls itself TIFF, takes as
    long for the tags as for the pixels, and other threads have to wait meanwhile.
    """
    tags = _tags(content)
    # Zstandard of differences, in one strip.
    stored = tags.get(COMPRESSION) == (1, 50000) and tags.get(PREDICTOR) == (1, 2)
    if stored and tags.get(STRIP_OFFSETS, (0, 0))[0] == 1:
        start, size = tags[STRIP_OFFSETS][1], tags[STRIP_BYTES][1]
        height, width, channels = (tags[tag][1] for tag in (LENGTH, WIDTH, SAMPLES))
        raw = imagecodecs.zstd_decode(content[start : start + size])
        count, value = tags.get(SAMPLE_FORMAT, (1, 1))  # of all channels: beyond two they stand elsewhere
        signed = (value & 0xFFFF if count < 3 else struct.unpack_from("<H", content, value)[0]) == 2
        dtype = np.dtype(f"{'i' if signed else 'u'}{len(raw) // (height * width * channels)}")
        return imagecodecs.delta_decode(np.frombuffer(raw, dtype).reshape(height, width, channels), axis=1)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        return page.asarray(maxworkers=1).reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _tags(content: bytes) -> dict[int, tuple[int, int]]:
    """Count and value, or place of the values, of each tag of a little-endian TIFF; of another, nothing."""
    if content[:4] != b"II*\0":
        return {}
    start = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, start)[0]
    entries = (struct.unpack_from("<HHII", content, start + 2 + 12 * index) for index in range(count))
    return {tag: (length, value) for tag, _, length, value in entries}


def _text(value: str | bytes) -> str:
    """Text features come back as bytes."""
    return value.decode() if isinstance(value, bytes) else value
