"""Segments series of images, and follows their cells over time or depth."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segjax.data.pixel_size import read_pixel_size
from segjax.errors import InputError
from segjax.experiment.earlier_images import write_failures
from segjax.experiment.export_formats import check_pixel_size
from segjax.experiment.finished_images import SHARED, Finished, FinishedImages, input_digest
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction_inputs import Inputs, Reading, describe, find_inputs, number_of
from segjax.experiment.prediction_methods import predict_image
from segjax.experiment.prediction_tables import default_names, open_predictions
from segjax.experiment.results_folder import (
    FAILED,
    explain_failure,
    join_first,
    without_temporary,
    writing,
)
from segjax.experiment.series_exports import SeriesResults, series_files
from segjax.experiment.series_inputs import FRAMES, Part, Series, SeriesKind, check_series, find_series
from segjax.experiment.written_files import WrittenFiles
from segjax.files import printable
from segjax.segmentation import Segmentation
from segjax.tracking import SliceLinker, Tracker, TrackingConfig
from segjax.train.interruption import Interruption, interruption


@dataclasses.dataclass(frozen=True)
class SeriesRequest:
    """How each series is tracked, and which files are written.

    Attributes:
      kind: whether its images are frames or slices.
      formats: names in `kind.formats`.
      tracking: which cells may be the same.
      reading: how files become images, without the axis of the series.
      pixel_size: side of a pixel in micrometres; that of each file if None.

    Raises:
      InputError: if a format cannot be written for this kind.
    """

    kind: SeriesKind
    formats: tuple[str, ...]
    tracking: TrackingConfig
    reading: Reading
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in self.kind.formats:
                raise InputError(
                    f"--export={name} is not written with {self.kind.flag}: choose among"
                    f" {', '.join(self.kind.formats)}, or leave {self.kind.flag} out"
                )


def predict_series(
    selected: OpenedMethod, images: Path, out: Path, request: SeriesRequest
) -> SeriesPrediction:
    """Checks everything that can be checked before the first image is segmented.

    Args:
      selected: the method, see `select_method`.
      images: a file with an axis of time or depth; or a folder, which is searched with its subfolders. Each
        such file in it is a series, and so are the other images of each folder.
      out: folder of the results, with a subfolder for each file that is a series, and for each subfolder.
      request: how each series is tracked, and which files are written.

    Returns:
      The prediction; iterating over it segments and tracks.

    Raises:
      InputError: if there is no image, the only series has a single image, `out` cannot be written, or the
        pixel size is not above 0.
    """
    check_pixel_size(request.pixel_size)
    inputs = find_inputs(images, out)
    series, failed = find_series(inputs, request.reading, request.kind)
    if len(series) == 1 and not failed:
        check_series(series[0], request.kind)
    open_predictions(out)
    return SeriesPrediction(selected, inputs, series, failed, out, request)


@dataclasses.dataclass(eq=False)
class SeriesPrediction:
    """The tracking of series; an iteration yields the name of each finished one, and its number of tracks.

    The segmentation of each image is stored at once, so that the same command continues after it was killed.
    A series that fails is listed in `failed.csv`, and the others are finished.

    Attributes:
      selected: the method.
      inputs: the images.
      series: the series.
      failed: reasons why files or series failed, by name.
      out: folder of the results.
      request: how each series is tracked, and which files are written.

    Raises:
      InputError: on iteration; after all others are finished, if series failed, and at once if nothing can be
        written.
      Interrupted: on iteration, after SIGTERM or Ctrl-C.
    """

    selected: OpenedMethod
    inputs: Inputs
    series: Sequence[Series]
    failed: dict[str, str]
    out: Path
    request: SeriesRequest

    def __post_init__(self) -> None:
        self._finished, self._written = FinishedImages(self.out), WrittenFiles(self.out)
        self._done: dict[str, int] = {}
        self._repeated = 0

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Segments and tracks."""
        folders = [self.out / series.key for series in self.series]
        with without_temporary(self.out, folders), interruption() as asked:
            asked.arm()
            total = sum(len(series.parts) for series in self.series)
            try:
                with tqdm(
                    total=total, unit=self.request.kind.part, desc="predict", dynamic_ncols=True
                ) as bar:
                    for series in self.series:
                        tracks = self._try(series, bar, asked)
                        if tracks is not None:
                            self._done[series.name] = tracks
                            yield series.name, tracks
            except KeyboardInterrupt:
                raise asked.interrupted(
                    f"stopped after {bar.n} of {total} {self.request.kind.part}s; the same command resumes"
                    " from there"
                ) from None
            finally:
                paths = {self.inputs.name(path): path for path in self.inputs.images.values()}
                paths |= {series.name: series.parts[0].path for series in self.series}
                with writing(self.out):
                    write_failures(self.out, self.failed, self._done, paths)
        if self.failed:
            raise InputError(
                f"{len(self.failed)} of {len(self.failed) + len(self._done)} series failed, see"
                f" {self.out / FAILED}: {join_first(self.failed)}"
            )

    @property
    def summary(self) -> str:
        """One sentence: the results, their folder, and how many files failed or were left out, and why."""
        what = "track" if self.request.kind is FRAMES else "cell"
        repeated = f" ({self._repeated} of them finished before)" if self._repeated else ""
        failed = f"; {len(self.failed)} failed" if self.failed else ""
        return printable(
            f"{number_of(sum(self._done.values()), what)} in {len(self._done)} series{repeated}: {self.out}"
            f"{failed}{describe(self.inputs.left_out)}"
        )

    def _try(self, series: Series, bar: tqdm, asked: Interruption) -> int | None:
        """Tracks a series; returns None, and remembers the reason, if that fails."""
        try:
            check_series(series, self.request.kind)
            return self._one(series, bar, asked)
        except Exception as error:  # a failed series does not stop the others
            what = f"{series.name} could not be tracked"
            self.failed[series.name] = explain_failure(error, what, self.out)
            return None

    def _one(self, series: Series, bar: tqdm, asked: Interruption) -> int:
        kind, folder = self.request.kind, self.out / series.key
        digests = self._digests(series)
        digest = hashlib.sha256(f"{digests} {self.request}".encode()).hexdigest()
        key = f"{series.key} {kind.flag}"
        before = self._finished.read(key)
        files = list(series_files(folder, series, kind, self.request.formats))
        is_finished = before is not None and self.selected.digest and before.digest == digest
        if before is not None and is_finished and all(file.exists() for file in files):
            self._repeated += 1
            bar.update(len(series.parts))
            return before.instances
        tracker = (Tracker if kind is FRAMES else SliceLinker)(self.request.tracking)
        shapes, classes = [], []
        for part, own_digest in zip(series.parts, digests, strict=True):
            if asked.number is not None:
                raise KeyboardInterrupt
            segmentation = self._segment(part, own_digest)
            shapes.append(segmentation.shape)
            classes.append(segmentation.classes)
            if shapes[-1] != shapes[0]:
                sizes = [f"{height} x {width}" for height, width in (shapes[-1], shapes[0])]
                raise InputError(
                    f"{part.name} has {sizes[0]} pixels, but {series.parts[0].name} has {sizes[1]}: give"
                    f" {kind.part}s of one size"
                )
            tracker.add(segmentation.labels)
            bar.update()
        tracks = tracker.finish()
        all_classes = np.concatenate(classes)
        size = self.request.pixel_size
        self._finished.forget_series(series.key)
        for part in series.parts:
            self._finished.release(part.key, SHARED)
        SeriesResults(
            series=series,
            kind=kind,
            tracks=tracks,
            shape=shapes[0],
            segmentation=lambda number: self._stored(series.parts[number]),
            image=lambda number: self._read(series.parts[number]),
            classes=all_classes,
            class_names=self.selected.class_names or default_names(all_classes.max(initial=1)),
            pixel_size=read_pixel_size(series.parts[0].path) if size is None else size,
            folder=folder,
            written=self._written,
        ).write(self.request.formats)
        self._finished.write(key, Finished(digest, tracks.num_tracks, shapes[0], None, {}, None))
        return tracks.num_tracks

    def _digests(self, series: Series) -> list[str]:
        """Returns the digest of each image of a series; a file of several images is read once.

        They are equal to those of a prediction without --frames or --stack, because the segmentations are.
        """
        paths = dict.fromkeys(part.path for part in series.parts)
        digests = {path: input_digest(path, self.selected.digest, self.request.reading) for path in paths}
        return [digests[part.path] for part in series.parts]

    def _segment(self, part: Part, digest: str) -> Segmentation:
        """Returns the stored segmentation of an image, or makes and stores it."""
        before = self._finished.read(part.key)
        if before is not None and self.selected.digest and before.digest == digest:
            stored = self._finished.read_predicted(part.key)
            if stored is not None:
                return stored.segmentation
        self._finished.forget(part.key)
        predicted = predict_image(self.selected, self._read(part))
        self._finished.write_predicted(part.key, predicted)
        segmentation = predicted.segmentation
        finished = Finished(digest, segmentation.num_instances, segmentation.shape, None, {}, None)
        self._finished.write(part.key, finished)
        return segmentation

    def _stored(self, part: Part) -> Segmentation:
        stored = self._finished.read_predicted(part.key)
        if stored is None:
            raise InputError(
                f"the stored segmentation of {part.name} in {self.out} was changed: run the same command"
                " again"
            )
        return stored.segmentation

    def _read(self, part: Part) -> np.ndarray:
        return part.reading.read(part.path, self.selected.channels)
