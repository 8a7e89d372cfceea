"""Segments one image that is read and written in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from skimage.segmentation import find_boundaries

from segjax.data.preprocess import Preprocessing
from segjax.data.readers import TIFF_SUFFIXES
from segjax.data.readers.lazy import Pyramid, is_lazy_only, open_lazily
from segjax.errors import InputError
from segjax.experiment.export_formats import Exports
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction_inputs import Reading, with_flags
from segjax.experiment.prediction_tables import default_names
from segjax.experiment.prediction_view import TISSUE, View, Viewed, open_view, region_file
from segjax.experiment.written_files import WrittenFiles
from segjax.inference.dense import DensePredictor
from segjax.inference.exports import marks
from segjax.inference.exports.pictures import write_picture
from segjax.inference.large import files, label_files
from segjax.inference.large.cells import LargeCells, Measuring
from segjax.inference.large.composition import Composition
from segjax.inference.large.grid import Grid, Tile
from segjax.inference.large.intensities import Intensities, measure_intensities
from segjax.inference.large.methods import DenseTiles, PlainTiles, Scale, TileMethod, preprocessing
from segjax.inference.large.pipeline import segment_tiles
from segjax.inference.large.regions import (
    Region,
    find_tissue,
    parse_rectangle,
    read_polygons,
    scaled,
)
from segjax.inference.large.scale import measure_scale
from segjax.inference.large.stitching import stitch
from segjax.inference.large.store import TileStore
from segjax.report.overlays import colour_of, to_display_rgb

# Images of more pixels are segmented in parts.
MAX_PIXELS = 2**25
# Side of the boxes in which intensities are measured, pixels.
MEASURED_BOX = 2048
# The formats that can be written in parts, those that are written by default, and those with measurements.
WRITERS = {
    "ome-tiff": label_files.write_ome_tiff,
    "ome-zarr": label_files.write_ome_zarr,
    "csv": files.write_csv,
    "parquet": files.write_parquet,
    "geojson": files.write_geojson,
}
LARGE_STANDARD = ("ome-tiff", "csv")
MEASURED = ("csv", "parquet")
# To be increased when the same settings give other tiles: older stored tiles are then removed.
VERSION = 3
# Number of windows that a GPU predicts together.
GPU_BATCH = 4
# Number of failed tiles that a message names.
NAMED = 3


class LargeRequest(NamedTuple):
    """An image that is segmented in parts.

    Attributes:
      selected: the method.
      path: the file, or the folder of an OME-Zarr.
      name: its name in results.
      exports: the formats that are written, see `formats_of`.
      reading: how the file becomes an image.
    """

    selected: OpenedMethod
    path: Path
    name: str
    exports: Exports
    reading: Reading


def is_large(path: Path, view: View, opening: dict[str, Any]) -> bool:
    """Returns whether an image is segmented in parts: if it is large, or a view of it is asked for."""
    if view.is_asked or is_lazy_only(path):
        return True
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        pyramid = open_lazily(path, **opening)
    except InputError:
        return False
    pyramid.close()
    return pyramid.shape[0] * pyramid.shape[1] > MAX_PIXELS


def formats_of(exports: Exports, name: str) -> Exports:
    """Returns the formats that are written for an image in parts.

    Raises:
      InputError: if one of the formats cannot be written in parts.
    """
    exports = exports.with_standard(LARGE_STANDARD)
    if others := [one for one in exports.formats if one not in WRITERS]:
        raise InputError(
            f"{name} is segmented in parts, but --export={others[0]} cannot be written in parts: choose among"
            f" {', '.join(WRITERS)}"
        )
    return exports


def predict_large(
    request: LargeRequest,
    stem: Path,
    folder: Path,
    digest: str,
    *,
    written: WrittenFiles,
    is_stopped: Callable[[], bool],
) -> tuple[tuple[int, int], int]:
    """Segments an image and writes its formats; continues where an earlier run was stopped.

    Args:
      request: the image, the method and the formats.
      stem: path of the results, without their endings.
      folder: folder of the finished tiles.
      digest: digest of everything that determines the result.
      written: notes the files.
      is_stopped: returns whether to stop; called between tiles.

    Returns:
      `(H, W)` of the image that was segmented, and its number of cells.

    Raises:
      InputError: if the image, its region or its resolution cannot be used. If tiles failed, it is raised
        after the files of the other tiles are written.
      KeyboardInterrupt: if `is_stopped` returns True.
      OSError: if a tile or a file cannot be written.
    """
    tissue_path = _tissue_path(request.reading.view, stem, written)
    try:
        pyramid = open_lazily(request.path, **request.reading.opening)
    except InputError as error:
        raise with_flags(error, request.path) from error
    try:
        viewed = open_view(
            pyramid,
            request.reading.view,
            pixel_size=request.exports.pixel_size,
            selected=request.reading.channels,
            channels=request.selected.channels,
        )
        height, width = viewed.level.shape[:2]
        logging.warning("%s: %d x %d pixels are segmented in tiles", request.path, height, width)
        region, tissue = _region(request.reading.view, pyramid, viewed)
        store = TileStore(folder)
        about = {"digest": digest, "version": VERSION}
        # Nobody knows whether the tiles of a method without a digest are those of this one.
        remembered = store.open(about) if request.selected.digest else store.clear()
        method, limits = _method(request.selected, viewed, region, remembered)
        store.remember(about, remembered)
        tiles = [tile for tile in method.grid.tiles() if region is None or region.meets(tile.core)]
        # More than any method has; only the names of classes that occur are written.
        names = request.selected.class_names or default_names(255)
        measuring = Measuring(viewed.level, limits, names, viewed.pixel_size)
        failed = segment_tiles(
            method,
            tiles,
            store,
            measure=measuring if set(MEASURED) & set(request.exports.formats) else None,
            batch=1 if jax.default_backend() == "cpu" else GPU_BATCH,
            is_stopped=is_stopped,
        )
        contains = None if region is None else lambda points: region.contains(points + 0.5)
        stitched = stitch(method.grid, tiles, store.read, min_fraction=method.min_fraction, contains=contains)
        composition = Composition(method.grid, tiles, store, stitched)
        cells = LargeCells(
            request.name, composition, measuring, colour_of, viewed.to_file, request.exports.radius
        )
        for name in request.exports.formats:
            for path in request.exports.paths(name, stem, 0):
                with written.replacing(path):
                    WRITERS[name](cells, path)
        if tissue is not None:
            with written.replacing(tissue_path):
                write_picture(tissue, tissue_path)
        if failed:
            raise _failure(request.path, failed, len(tiles))
        return (height, width), stitched.num_cells
    finally:
        pyramid.close()


def _tissue_path(view: View, stem: Path, written: WrittenFiles) -> Path:
    """Returns the path of the picture of the tissue, after a check if the view needs it."""
    path = marks.result_path(marks.TISSUE, stem)
    if view.region == TISSUE:
        written.check(path)
    return path


def _region(view: View, pyramid: Pyramid, viewed: Viewed) -> tuple[Region | None, np.ndarray | None]:
    """Returns the region in pixels of the view, and for tissue a picture [h, w, 3] with its outline."""
    full, shape = pyramid.shape[:2], viewed.level.shape[:2]
    if not view.region:
        return None, None
    if view.region == TISSUE:
        mask, picture = find_tissue(pyramid.levels, shape)
        shown = to_display_rgb(picture)
        shown[find_boundaries(mask.mask)] = (255, 0, 0)
        return mask, shown
    file = region_file(view)
    region = parse_rectangle(view.region, full) if file is None else read_polygons(file, full)
    if region is None:
        raise InputError(
            f"--region={view.region} is not a rectangle x,y,width,height: give four numbers in pixels"
        )
    return scaled(region, 1 / viewed.to_file), None


def _method(
    selected: OpenedMethod, viewed: Viewed, region: Region | None, remembered: dict[str, Any]
) -> tuple[TileMethod, np.ndarray]:
    """Returns the method for tiles, and [2, C] limits of the intensities.

    Measurements are taken from `remembered`; missing ones are made and added to it.
    """
    level, method = viewed.level, selected.method
    boxes = [tile.core for tile in Grid(level.shape[:2], MEASURED_BOX, 0).tiles()]
    boxes = [box for box in boxes if region is None or region.meets(box)]
    settings = preprocessing(method) if isinstance(method, DensePredictor) else Preprocessing()
    if "intensities" in remembered and settings.stain is None:
        bottom, top, lowest, highest = map(np.array, remembered["intensities"])
        intensities = Intensities(bottom, top, lowest, highest)
    else:
        intensities = measure_intensities(level, boxes, settings)
        four = (intensities.bottom, intensities.top, intensities.lowest, intensities.highest)
        remembered["intensities"] = [values.tolist() for values in four]
    limits = np.stack([intensities.lowest, intensities.highest])
    if not isinstance(method, DensePredictor):
        logging.warning("each tile of %d pixels is segmented as an image of its own", PlainTiles.side)
        return PlainTiles(method, level), limits
    if "scale" not in remembered:
        scale = measure_scale(method, level, intensities, boxes)
        remembered["scale"] = dataclasses.asdict(scale)
    return DenseTiles(method, level, intensities, Scale(**remembered["scale"])), limits


def _failure(path: Path, failed: dict[Tile, str], count: int) -> InputError:
    """Returns one sentence that names the tiles that failed."""
    reasons = [
        f"rows {tile.core.top} to {tile.core.bottom}, columns {tile.core.left} to {tile.core.right}: {reason}"
        for tile, reason in failed.items()
    ]
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return InputError(
        f"{path}: {len(failed)} of {count} tiles failed, the others are written, and the same command tries"
        f" these again: {'; '.join(reasons[:NAMED])}{more}"
    )
