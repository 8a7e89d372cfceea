"""Writes the results of a series of images: labels, overlays and tables with one id for each tracked cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segjax.classical.measurements import measure
from segjax.errors import InputError
from segjax.experiment.series_inputs import FRAMES, Series, SeriesKind
from segjax.experiment.written_files import WrittenFiles
from segjax.files import write_text
from segjax.inference.exports.label_images import write_stack, write_tiff
from segjax.inference.exports.marks import FRAMES as CTC_FOLDER
from segjax.inference.exports.pictures import write_picture
from segjax.inference.tables import write_table
from segjax.report.overlays import to_display_rgb
from segjax.report.track_overlays import draw_tracks
from segjax.segmentation import Segmentation
from segjax.tracking import Tracks, volume_table

# Number of frames whose positions an overlay shows.
TAIL = 10
LINEAGE = "res_track.txt"
# The largest id in a label image of the Cell Tracking Challenge.
MAX_CTC = 2**16 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class SeriesResults:
    """The tracked cells of a series, and where their files are written.

    Attributes:
      series: the images.
      kind: whether they are frames or slices.
      tracks: the tracks, or the cells in 3-D.
      shape: `(H, W)` of each image.
      segmentation: returns the segmentation of an image, by its index in the series.
      image: returns an image [H, W, C], by its index in the series.
      classes: [n] int, the class of each cell of `tracks`.
      class_names: K names, background first.
      pixel_size: side of a pixel in micrometres, None if it is unknown.
      folder: the folder of the results of the series.
      written: notes the files.
    """

    series: Series
    kind: SeriesKind
    tracks: Tracks
    shape: tuple[int, int]
    segmentation: Callable[[int], Segmentation]
    image: Callable[[int], np.ndarray]
    classes: np.ndarray
    class_names: Sequence[str]
    pixel_size: float | None
    folder: Path
    written: WrittenFiles

    def write(self, formats: Sequence[str]) -> None:
        """Writes the files of some formats, and the table of the tracks.

        Raises:
          InputError: if a file would replace one that is no result or was changed, or there are too many
            tracks.
        """
        for path in series_files(self.folder, self.series, self.kind, formats):
            self.written.check(path)
        if "ctc" in formats and self.tracks.num_tracks > MAX_CTC:
            raise InputError(
                f"{self.series.name} has {self.tracks.num_tracks} tracks, and the Cell Tracking Challenge"
                f" allows {MAX_CTC}: give --export=labels instead of ctc"
            )
        measured = []
        for number, part in enumerate(self.series.parts):
            if "ctc" in formats:
                path = _ctc_path(self.folder, self.series, number)
                with self.written.replacing(path):
                    write_tiff(self._tracked(number).astype(np.uint16), path)
            if "overlay" in formats:
                tails = self.tracks.tails(number, TAIL) if self.kind is FRAMES else None
                drawn = draw_tracks(to_display_rgb(self.image(number)), self._tracked(number), tails)
                path = self.folder / f"{part.stem}_overlay.png"
                with self.written.replacing(path):
                    write_picture(drawn, path)
            if "csv" in formats:
                measured.append(self._measured(number))
        if "labels" in formats:
            dtype = np.uint16 if self.tracks.num_tracks <= MAX_CTC else np.uint32
            shape = (len(self.series.parts), *self.shape)
            pages = (self._tracked(number).astype(dtype) for number in range(shape[0]))
            path = _labels_path(self.folder, self.kind)
            with self.written.replacing(path):
                write_stack(pages, shape, np.dtype(dtype), f"{self.kind.letter}YX", path)
        if "csv" in formats:
            for suffix in ("csv", "parquet"):
                path = self.folder / f"measurements.{suffix}"
                with self.written.replacing(path):
                    write_table(measured, path)
        if "ctc" in formats:
            path = self.folder / CTC_FOLDER / LINEAGE
            with self.written.replacing(path):
                write_text(path, self.tracks.ctc_lines())
        for path in _tables(self.folder, self.kind):
            with self.written.replacing(path):
                write_table([self._table()], path)

    def _tracked(self, number: int) -> np.ndarray:
        """Returns [H, W] int32, the track of each pixel of an image."""
        return np.append(np.int32(0), self.tracks.ids_in(number))[self.segmentation(number).labels]

    def _measured(self, number: int) -> dict[str, np.ndarray]:
        segmentation, ids = self.segmentation(number), self.tracks.ids_in(number)
        table = measure(
            self.image(number), segmentation, pixel_size=self.pixel_size, class_names=self.class_names
        )
        name = "track" if self.kind is FRAMES else "cell"
        return {self.kind.part: np.full(len(ids), number), name: ids} | table

    def _table(self) -> dict[str, np.ndarray]:
        """Returns the table of the tracks, with the class that most pixels of each have."""
        table = self.tracks.table(self.pixel_size) if self.kind is FRAMES else volume_table(self.tracks)
        votes = np.zeros((self.tracks.num_tracks, len(self.class_names)))
        np.add.at(votes, (self.tracks.ids - 1, self.classes), self.tracks.cells.areas)
        names = np.array(self.class_names, np.str_)
        return table | {"class_name": names[votes.argmax(axis=1)]}


def series_files(folder: Path, series: Series, kind: SeriesKind, formats: Sequence[str]) -> Iterator[Path]:
    """Yields the files that `SeriesResults.write` writes."""
    yield from _tables(folder, kind)
    for number, part in enumerate(series.parts):
        if "ctc" in formats:
            yield _ctc_path(folder, series, number)
        if "overlay" in formats:
            yield folder / f"{part.stem}_overlay.png"
    if "labels" in formats:
        yield _labels_path(folder, kind)
    if "ctc" in formats:
        yield folder / CTC_FOLDER / LINEAGE
    if "csv" in formats:
        yield from (folder / f"measurements.{suffix}" for suffix in ("csv", "parquet"))


def _tables(folder: Path, kind: SeriesKind) -> list[Path]:
    return [folder / f"{'tracks' if kind is FRAMES else 'cells'}.{suffix}" for suffix in ("csv", "parquet")]


def _labels_path(folder: Path, kind: SeriesKind) -> Path:
    return folder / f"{'tracks' if kind is FRAMES else 'cells'}_labels.tif"


def _ctc_path(folder: Path, series: Series, number: int) -> Path:
    digits = max(3, len(str(len(series.parts) - 1)))
    return folder / CTC_FOLDER / f"mask{number:0{digits}}.tif"
