"""Label images as OME-TIFF and OME-Zarr, at several resolutions and with the pixel size."""

from __future__ import annotations

import gzip
import itertools
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from segjax.files import atomic_write
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.label_images import class_image, label_image
from segjax.inference.exports.marks import NAMESPACE, SOFTWARE, atomic_folder

# Side of a TIFF tile and of a Zarr chunk, pixels. The coarsest level of an image fits into one.
TILE = 512
ZARR = "0.5"


def write_ome_tiff(cells: Cells, path: Path) -> None:
    """Writes a tiled OME-TIFF of two channels, the id and the class of each pixel."""
    labels = label_image(cells.segmentation)
    levels = _levels(np.stack([labels, class_image(cells.segmentation).astype(labels.dtype)]))
    about = about_labels(cells.name, cells.pixel_size)
    options: dict[str, Any] = {"tile": (TILE, TILE), "compression": "zlib", "photometric": "minisblack"}
    with atomic_write(path) as tmp_path, tifffile.TiffWriter(tmp_path, ome=True, bigtiff=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata=about, software=SOFTWARE, **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **options)


def about_labels(name: str, pixel_size: float | None) -> dict[str, Any]:
    """Returns the metadata of an OME-TIFF of two channels, the id and the class of each pixel."""
    size: dict[str, Any] = {}
    if pixel_size is not None:
        for axis in "XY":
            size |= {f"PhysicalSize{axis}": pixel_size, f"PhysicalSize{axis}Unit": "µm"}
    return {
        "axes": "CYX",
        "Channel": {"Name": ["cells", "classes"]},
        "UUID": str(uuid.uuid5(NAMESPACE, name)),
        **size,
    }


def write_ome_zarr(cells: Cells, path: Path) -> None:
    """Writes an OME-Zarr 0.5 of Zarr v3: the image, and its cells as `labels/cells`."""
    image = cells.image.astype(np.uint8) if cells.image.dtype == bool else cells.image
    labels = label_image(cells.segmentation)
    properties = [
        {"label-value": index + 1, "class": cells.class_of(index), "score": round(float(score), 6)}
        for index, score in enumerate(cells.segmentation.scores)
    ]
    colours = [
        {"label-value": index + 1, "rgba": [*cells.colour_of(int(number)), 255]}
        for index, number in enumerate(cells.segmentation.classes)
    ]
    about = {"colors": colours, "properties": properties, "source": {"image": "../../"}}
    with atomic_folder(path) as folder:
        _write_image(folder, np.moveaxis(image, -1, 0), "cyx", cells.pixel_size, {"software": SOFTWARE})
        write_group(folder / "labels", {"ome": {"version": ZARR, "labels": ["cells"]}})
        _write_image(folder / "labels/cells", labels, "yx", cells.pixel_size, {"ome": {"image-label": about}})


def _levels(image: np.ndarray) -> list[np.ndarray]:
    """Returns the levels of an image [..., H, W]: each has every second pixel of the one before."""
    levels = [image]
    while max(levels[-1].shape[-2:]) > TILE:
        levels.append(levels[-1][..., ::2, ::2])
    return levels


def _write_image(
    folder: Path, image: np.ndarray, axes: str, pixel_size: float | None, attributes: dict[str, Any]
) -> None:
    """Writes the levels of an image, and the metadata that describe their axes and scales."""
    levels = _levels(image)
    for number, level in enumerate(levels):
        _write_array(folder / str(number), level, axes)
    ome = {**describe_levels(len(levels), axes, pixel_size), **attributes.get("ome", {})}
    write_group(folder, {**attributes, "ome": ome})


def describe_levels(count: int, axes: str, pixel_size: float | None) -> dict[str, Any]:
    """Returns OME's metadata of an image at several resolutions.

    Args:
      count: number of levels, which are the arrays "0", "1", ... of the folder.
      axes: names of the axes, of `cyx`.
      pixel_size: side of a pixel of the finest level in micrometres, None if it is unknown.
    """
    unit = {} if pixel_size is None else {"unit": "micrometer"}
    described = [
        {"name": "c", "type": "channel"} if axis == "c" else {"name": axis, "type": "space", **unit}
        for axis in axes
    ]
    data_sets = []
    for number in range(count):
        side = (1.0 if pixel_size is None else pixel_size) * 2**number
        scale = [1.0 if axis == "c" else side for axis in axes]
        transformation = {"type": "scale", "scale": scale}
        data_sets.append({"path": str(number), "coordinateTransformations": [transformation]})
    return {"version": ZARR, "multiscales": [{"name": "", "axes": described, "datasets": data_sets}]}


def write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Writes the metadata of a group of Zarr v3."""
    about = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    _describe(folder, about)


def describe_array(
    folder: Path, shape: tuple[int, ...], names: Sequence[str], dtype: np.dtype, chunk: tuple[int, ...]
) -> None:
    """Writes the metadata of an array of Zarr v3 in little-endian chunks that are compressed by gzip."""
    about = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 1}},
        ],
        "dimension_names": list(names),
        "attributes": {},
    }
    _describe(folder, about)


def _describe(folder: Path, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(about), encoding="utf-8")


def _write_array(folder: Path, array: np.ndarray, names: Sequence[str]) -> None:
    """Writes an array of Zarr v3; chunks of zeros are left out."""
    dtype = array.dtype.newbyteorder("<")
    chunk = tuple(1 if name == "c" else TILE for name in names)
    describe_array(folder, array.shape, names, dtype, chunk)
    numbers = (range(-(-length // side)) for length, side in zip(array.shape, chunk, strict=True))
    for position in itertools.product(*numbers):
        window = tuple(
            slice(index * side, (index + 1) * side) for index, side in zip(position, chunk, strict=True)
        )
        part = array[window]
        if part.any():
            full = np.zeros(chunk, dtype)
            full[tuple(slice(length) for length in part.shape)] = part
            path = folder.joinpath("c", *map(str, position))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(full.tobytes(), 1, mtime=0))
