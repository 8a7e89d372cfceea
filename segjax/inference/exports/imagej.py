"""Outlines as a zip archive of ROIs, which ImageJ opens."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from segjax.errors import InputError
from segjax.files import atomic_write
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.marks import SOFTWARE
from segjax.inference.polygons import Polygon

# Largest coordinate of a ROI.
LARGEST = 60_535
# Commands in the path of a shape: begin a line, continue it, close it.
MOVE, LINE, CLOSE = 0.0, 1.0, 4.0


def write_imagej(cells: Cells, path: Path) -> None:
    """Writes a ROI for each cell: its group is the number of its class, its line has the colour of the class.

    Raises:
      InputError: if the image has more than 60,535 rows or columns.
    """
    if max(cells.segmentation.shape) > LARGEST:
        raise InputError(
            f"{cells.name} has {max(cells.segmentation.shape)} pixels along a side, but ROIs of ImageJ can"
            f" have at most {LARGEST}: leave imagej out of --export"
        )
    digits = len(str(len(cells.outlines)))
    with atomic_write(path) as tmp_path, zipfile.ZipFile(tmp_path, "w") as archive:
        archive.comment = SOFTWARE.encode()
        for index, polygons in enumerate(cells.outlines):
            number = int(cells.segmentation.classes[index])
            roi = _roi(polygons, f"{index + 1:0{digits}}")
            roi.group = min(number, 255)
            roi.stroke_color = bytes([255, *cells.colour_of(number)])
            # A fixed date, so that equal cells make equal files.
            info = zipfile.ZipInfo(f"{roi.name}.roi")
            archive.writestr(info, roi.tobytes(), zipfile.ZIP_DEFLATED, 1)


def _roi(polygons: list[Polygon], name: str) -> ImagejRoi:
    """Returns a polygon, or a shape of several closed lines if the cell has holes or several parts."""
    if len(polygons) == 1 and len(polygons[0]) == 1:
        roi = ImagejRoi.frompoints(polygons[0][0], name=name)
        roi.roitype = ROI_TYPE.POLYGON
        return roi
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.concatenate(rings)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    roi = ImagejRoi(name=name, roitype=ROI_TYPE.RECT, left=left, top=top, right=right, bottom=bottom)
    roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    steps = np.column_stack([np.full(len(ring), LINE), ring])
    steps[0, 0] = MOVE
    return np.append(steps.ravel(), CLOSE).astype(np.float32)
