"""The formats of a prediction by name: their files, the functions that write them, and their settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from segjax.data.pixel_size import is_plausible, question
from segjax.errors import InputError, choose
from segjax.inference.exports import label_images, marks, pictures
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.geojson import write_geojson
from segjax.inference.exports.geoparquet import write_geoparquet
from segjax.inference.exports.imagej import write_imagej
from segjax.inference.exports.marks import result_path
from segjax.inference.exports.ome import write_ome_tiff, write_ome_zarr
from segjax.inference.neighbours import Radius
from segjax.inference.tables import write_table
from segjax.report.overlays import draw_outlines, legend


class Format(NamedTuple):
    """A format of the results.

    Attributes:
      files: for each file of an image the function that writes it, by the pattern of its name, see
        `result_path`.
      settings: the properties of `Exports`, or "frame", that change the files.
    """

    files: Mapping[str, Callable[[Cells, Path], None]]
    settings: tuple[str, ...] = ()


def write_overlay(cells: Cells, path: Path) -> None:
    """Writes the image with outlines and a legend."""
    outlined = draw_outlines(cells.picture, cells.segmentation)
    pictures.write_picture(legend(outlined, cells.class_names), path)


MEASURED = ("pixel_size", "radius", "uncertainty")
FORMATS = {
    "labels": Format({marks.LABELS: label_images.write_labels, marks.CLASSES: label_images.write_classes}),
    "overlay": Format({marks.OVERLAY: write_overlay}),
    "ome-tiff": Format({marks.OME_TIFF: write_ome_tiff}, ("pixel_size",)),
    "ome-zarr": Format({marks.OME_ZARR: write_ome_zarr}, ("pixel_size",)),
    # One file of all images.
    "coco": Format({}),
    "geojson": Format({marks.GEOJSON: write_geojson}, ("uncertainty",)),
    "imagej": Format({marks.ROIS: write_imagej}),
    "parquet": Format({marks.PARQUET: write_geoparquet}, MEASURED),
    "csv": Format({marks.TABLE: lambda cells, path: write_table([cells.table], path)}, MEASURED),
    "svg": Format({marks.SVG: pictures.write_svg}),
    "cutouts": Format({marks.CUTOUTS: pictures.write_cutouts}),
    "ctc": Format({marks.FRAME: label_images.write_frame}, ("frame",)),
    "uncertainty": Format({marks.UNCERTAINTY: label_images.write_uncertainty}),
}
STANDARD = ("labels", "overlay")


@dataclasses.dataclass(frozen=True)
class Exports:
    """The formats that a prediction writes, and the settings of their measurements.

    Attributes:
      formats: names in `FORMATS`.
      pixel_size: side of a pixel in micrometres; that of each file if None.
      radius: radius within which the tables count neighbours; None for no such column.
      are_chosen: whether the user chose the formats. If not, other formats may take the place of `STANDARD`.

    Raises:
      InputError: if a format is unknown.
    """

    formats: tuple[str, ...] = STANDARD
    pixel_size: float | None = None
    radius: Radius | None = None
    are_chosen: bool = True

    def __post_init__(self) -> None:
        if not self.formats:
            raise InputError(f"--export= is empty: give one or more of {', '.join(FORMATS)}")
        for name in self.formats:
            choose(FORMATS, "--export", name)

    @property
    def uncertainty(self) -> bool:
        """Whether the uncertainty of pixels and cells is written."""
        return "uncertainty" in self.formats

    def paths(self, name: str, stem: Path, frame: int) -> dict[Path, Callable[[Cells, Path], None]]:
        """Returns the files of a format for one image, each with the function that writes it."""
        return {result_path(pattern, stem, frame): write for pattern, write in FORMATS[name].files.items()}

    def settings(self, name: str, frame: int) -> dict[str, Any]:
        """Returns the settings that the files of a format depend on, as JSON can store them."""
        values = {
            "pixel_size": self.pixel_size,
            "radius": None if self.radius is None else self.radius.column,
            "uncertainty": self.uncertainty,
            "frame": frame,
        }
        return {field: values[field] for field in FORMATS[name].settings}

    def all_settings(self, names: Iterable[str], frame: int) -> dict[str, dict[str, Any]]:
        """Returns the settings of several formats by their names."""
        return {name: self.settings(name, frame) for name in names}

    def missing(self, stem: Path, frame: int, written: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        """Returns the formats that must be written: a file is missing, or was written with other settings."""
        missing = []
        for name in self.formats:
            # Checks all formats, so that a name that is too long is an error before any file is written.
            exist = [path.exists() for path in self.paths(name, stem, frame)]
            if not all(exist) or written.get(name) != self.settings(name, frame):
                missing.append(name)
        return tuple(missing)

    def with_standard(self, standard: Sequence[str]) -> Exports:
        """Returns the formats with others in the place of `STANDARD`, unless the user chose them."""
        if self.are_chosen:
            return self
        added = (name for name in self.formats if name not in STANDARD)
        return dataclasses.replace(self, formats=tuple(dict.fromkeys((*standard, *added))))

    def check_overwritten(
        self, stem: Path, frame: int, formats: Iterable[str], check: Callable[[Path], None]
    ) -> None:
        """Calls `check` for each file of some formats, see `WrittenFiles.check`."""
        for name in formats:
            for path in self.paths(name, stem, frame):
                check(path)


def check_pixel_size(size: float | None) -> None:
    """Checks a pixel size in micrometres; warns if no microscope has it.

    Raises:
      InputError: if it is not above 0.
    """
    if size is not None and not 0 < size < math.inf:
        raise InputError(f"--pixel_size={size} must be above 0: give the side of a pixel in micrometres")
    if size is not None and not is_plausible(size):
        logging.warning("--pixel_size states %s", question(size))
