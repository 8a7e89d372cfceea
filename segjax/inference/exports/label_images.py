"""Label images as plain TIFF, which ImageJ, QuPath and napari open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

from segjax.errors import InputError
from segjax.files import atomic_write
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.marks import SOFTWARE
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import class_bytes


def write_labels(cells: Cells, path: Path) -> None:
    """Writes the id of each pixel's cell: uint16, or uint32 above 65,535 cells."""
    write_tiff(label_image(cells.segmentation), path)


def write_classes(cells: Cells, path: Path) -> None:
    """Writes the class of each pixel: uint8, 255 where it is `IGNORE`."""
    write_tiff(class_image(cells.segmentation), path)


def write_uncertainty(cells: Cells, path: Path) -> None:
    """Writes the uncertainty of each pixel: float32 from 0 to 1."""
    write_tiff(np.asarray(cells.uncertainty, np.float32), path)


def write_frame(cells: Cells, path: Path) -> None:
    """Writes a frame of the Cell Tracking Challenge: uint16.

    Raises:
      InputError: if there are more than 65,535 cells.
    """
    count = cells.segmentation.num_instances
    if count >= 2**16:
        raise InputError(
            f"{cells.name} has {count} cells, but a frame of the Cell Tracking Challenge can have at most"
            " 65535: leave ctc out of --export"
        )
    write_tiff(cells.segmentation.labels.astype(np.uint16), path)


def label_image(segmentation: Segmentation) -> np.ndarray:
    """Returns the ids [H, W] as uint16, or as uint32 above 65,535 instances."""
    return segmentation.labels.astype(np.uint16 if segmentation.num_instances < 2**16 else np.uint32)


def class_image(segmentation: Segmentation) -> np.ndarray:
    """Returns the class [H, W] of each pixel, see `class_bytes`."""
    return class_bytes(segmentation.semantic)


def write_tiff(picture: np.ndarray, path: Path) -> None:
    """Writes a map [H, W] to a compressed TIFF, atomically."""
    with atomic_write(path) as tmp_path:
        tifffile.imwrite(tmp_path, picture, compression="zlib", software=SOFTWARE)


def write_stack(
    pictures: Iterable[np.ndarray], shape: tuple[int, int, int], dtype: np.dtype, axes: str, path: Path
) -> None:
    """Writes maps [H, W] one after the other to a compressed TIFF, atomically.

    Args:
      pictures: the maps; only one at a time is in memory.
      shape: `(number of maps, H, W)`.
      dtype: type of the pixels of all maps.
      axes: a letter for each axis, such as TYX.
      path: the file.
    """
    with atomic_write(path) as tmp_path:
        tifffile.imwrite(
            tmp_path,
            iter(pictures),
            shape=shape,
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            software=SOFTWARE,
            metadata={"axes": axes},
        )
