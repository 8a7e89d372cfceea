"""Segments a user's own images."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segjax.data.pixel_size import read_pixel_size
from segjax.errors import InputError
from segjax.experiment import prediction_large
from segjax.experiment.earlier_images import earlier_images, write_failures
from segjax.experiment.export_formats import Exports, check_pixel_size
from segjax.experiment.finished_images import Finished, FinishedImages, Outcome, Predicted, input_digest
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction_inputs import (
    Inputs,
    Reading,
    describe,
    find_inputs,
    frame_numbers,
    number_of,
)
from segjax.experiment.prediction_methods import predict_image
from segjax.experiment.prediction_tables import default_names, open_predictions, own_tables, write_tables
from segjax.experiment.prediction_view import view_digest
from segjax.experiment.results_folder import FAILED, explain_failure, join_first, without_temporary, writing
from segjax.experiment.written_files import WrittenFiles
from segjax.files import printable
from segjax.inference import coco
from segjax.inference.dense import DensePredictor
from segjax.inference.exports.cells import Cells
from segjax.inference.ordered import in_order
from segjax.report.overlays import colour_of, to_display_rgb
from segjax.train.interruption import interruption

STANDARD_EXPORTS, AS_STORED = Exports(are_chosen=False), Reading()


def predict(
    selected: OpenedMethod,
    images: Path,
    out: Path,
    *,
    exports: Exports = STANDARD_EXPORTS,
    reading: Reading = AS_STORED,
    workers: int = 1,
) -> Prediction:
    """Checks everything that can be checked before the first image is segmented.

    Args:
      selected: the method, see `select_method`.
      images: one image, or a folder, which is searched with its subfolders.
      out: folder in which the files of each image are written, in the same subfolders as the images. It may
        be the folder of images. The format `csv` also writes `measurements.csv` and `measurements.parquet` of
        all images but large ones. The format `coco` writes `predictions.json`: for a detector its boxes and
        full masks, for other methods the instances of the label map.
      exports: the formats, and the settings of their measurements.
      reading: how files become images.
      workers: images in progress at the same time, in threads, so that files are read and written while the
        device computes. The first image is finished alone, so that each program is compiled once.

    Returns:
      The prediction; iterating over it segments the images.

    Raises:
      InputError: if there is no image, `out` cannot be written, the pixel size is not above 0, or the method
        has no uncertainty.
    """
    check_pixel_size(exports.pixel_size)
    if exports.uncertainty and not isinstance(selected.method, DensePredictor):
        raise InputError(
            "--uncertainty is the entropy of class probabilities, which this method does not predict: leave"
            " it out, or give a run of a segmenter"
        )
    inputs = find_inputs(images, out)
    open_predictions(out, exports.formats)
    return Prediction(selected, inputs, out, exports, reading, workers)


@dataclasses.dataclass(eq=False)
class Prediction:
    """The segmentation of a folder; an iteration yields each finished image, and its number of instances.

    An image that an earlier run finished with an equal method is not segmented again; missing files, such as
    those of further formats, are written from its stored segmentation. Every file is written completely or
    not at all. The tables of all images are written at the end. SIGTERM and Ctrl-C end the iteration after
    the images in progress, a second Ctrl-C at once; the tables are written then, too.

    The fields are the arguments of `predict`.

    Raises:
      InputError: on iteration; after all others are finished, if images could not be segmented, and at once
        if nothing can be written.
      Interrupted: on iteration, after SIGTERM or Ctrl-C.
    """

    selected: OpenedMethod
    inputs: Inputs
    out: Path
    exports: Exports
    reading: Reading
    workers: int

    def __post_init__(self) -> None:
        self._finished, self._written = FinishedImages(self.out), WrittenFiles(self.out)
        self._frames = frame_numbers(self.inputs.images)
        # By the name of the image.
        self._done: dict[str, Finished] = {}
        self._failed: dict[str, str] = {
            self.inputs.name(folder): reason for folder, reason in self.inputs.unreadable.items()
        }
        self._repeated, self._method = 0, ""
        self._large = threading.Lock()
        self._is_stopped: Callable[[], bool] = lambda: False

    def __iter__(self) -> Iterator[tuple[Path, int]]:
        """Segments the images."""
        # Signals set a flag. An exception in the middle of an image would count as the failure of the image.
        folders = {(self.out / key).parent for key in self.inputs.images}
        with without_temporary(self.out, folders), interruption() as asked:
            asked.arm()
            self._is_stopped = lambda: asked.number is not None
            count = len(self.inputs.images)
            try:
                for path, outcome in tqdm(
                    self._outcomes(), "predict", count, unit="image", dynamic_ncols=True
                ):
                    name = self.inputs.name(path)
                    self._repeated += outcome.is_repeated
                    if outcome.finished is None:
                        self._failed[name] = outcome.reason
                    else:
                        self._done[name] = outcome.finished
                        yield path, outcome.finished.instances
            except KeyboardInterrupt:
                raise asked.interrupted(
                    f"stopped after {len(self._done)} of {count} images; the same command resumes from there"
                ) from None
            finally:
                self._write_tables()
        if self._failed:
            raise InputError(
                f"{len(self._failed)} of {len(self.inputs.images)} images could not be segmented, see"
                f" {self.out / FAILED}: {join_first(self._failed)}"
            )

    @property
    def summary(self) -> str:
        """One sentence: the results, their folder, and how many files failed or were left out, and why."""
        instances = number_of(sum(image.instances for image in self._done.values()), "instance")
        images = number_of(len(self._done), "image")
        repeated = f" ({self._repeated} of them finished before)" if self._repeated else ""
        failed = f"; {len(self._failed)} failed" if self._failed else ""
        return printable(
            f"{instances} in {images}{repeated}: {self.out}{failed}{own_tables(self._done)}"
            f"{describe(self.inputs.left_out)}"
        )

    def _outcomes(self) -> Iterator[tuple[Path, Outcome]]:
        """Segments the images, and yields their outcomes in order.

        Raises:
          KeyboardInterrupt: if it is stopped before the last image.
        """
        images = deque(self.inputs.images.items())

        def take() -> Iterator[Callable[[], tuple[Path, Outcome]]]:
            while images and not self._is_stopped():
                yield functools.partial(self._try, *images.popleft())

        tasks = take()
        # One at a time in this thread, which a second Ctrl-C interrupts at once, until programs are compiled.
        for task in tasks:
            path, outcome = task()
            yield path, outcome
            if self.workers > 1 and not outcome.is_repeated:
                break
        yield from in_order(tasks, self.workers)
        if images:
            raise KeyboardInterrupt

    def _try(self, key: str, path: Path) -> tuple[Path, Outcome]:
        """Segments an image and stores its results, or states why that fails."""
        try:
            outcome = self._one(key, path)
            return path, self._finished.stored(key, outcome, self.inputs.name(path), path, self._method)
        except Exception as error:  # a failed image does not stop the others
            return path, Outcome(None, explain_failure(error, f"{path} could not be segmented", self.out))

    def _one(self, key: str, path: Path) -> Outcome:
        if printable(key) != key:
            raise InputError(f"{path} has a name that is not UTF-8: rename it")
        view = view_digest(self.reading.view, self.exports.pixel_size)
        reading = f"{self.reading} {view}".rstrip()
        self._method = self.selected.digest and f"{self.selected.digest} {reading}"
        digest = input_digest(path, self.selected.digest, reading)
        before = self._finished.read(key)
        if before is not None and not (self.selected.digest and before.digest == digest):
            before = None
        if prediction_large.is_large(path, self.reading.view, self.reading.opening):
            return self._one_large(key, path, digest, before)
        missing = self._missing(key, before, self.exports)
        if before is not None and not missing:
            return Outcome(before, is_repeated=True)
        self.exports.check_overwritten(self.out / key, self._frames[key], missing, self._written.check)
        image = self.reading.read(path, self.selected.channels)
        predicted = None if before is None else self._finished.read_predicted(key)
        needs_uncertainty = self.exports.uncertainty
        if before is None or predicted is None or (needs_uncertainty and predicted.uncertainty is None):
            missing = self.exports.formats
            self.exports.check_overwritten(self.out / key, self._frames[key], missing, self._written.check)
            self._finished.forget(key)
            predicted = predict_image(self.selected, image, uncertainty=self.exports.uncertainty)
            self._finished.write_predicted(key, predicted)
            segmentation = predicted.segmentation
            before = Finished(digest, segmentation.num_instances, segmentation.shape, None, {}, None)
        else:
            self._finished.release(key, missing)
        self._finished.release_series(key, missing)
        return Outcome(self._write(key, self._cells(image, predicted, path), predicted, before, missing))

    def _one_large(self, key: str, path: Path, digest: str, before: Finished | None) -> Outcome:
        """Segments an image in parts; one at a time, so that memory is bounded."""
        exports = prediction_large.formats_of(self.exports, str(path))
        missing = self._missing(key, before, exports)
        if before is not None and not missing:
            return Outcome(before, is_repeated=True)
        self.exports.check_overwritten(self.out / key, self._frames[key], missing, self._written.check)
        if before is None:
            self._finished.forget(key)
        self._finished.release(key, missing)
        asked = dataclasses.replace(exports, formats=missing)
        request = prediction_large.LargeRequest(
            self.selected, path, self.inputs.name(path), asked, self.reading
        )
        folder = self._finished.folder_of(key)
        with self._large:
            shape, count = prediction_large.predict_large(
                request, self.out / key, folder, digest, written=self._written, is_stopped=self._is_stopped
            )
        written = ({} if before is None else {**before.exports}) | exports.all_settings(missing, 0)
        return Outcome(Finished(digest, count, shape, None, written, None))

    def _missing(self, key: str, before: Finished | None, exports: Exports) -> tuple[str, ...]:
        return exports.missing(self.out / key, self._frames[key], {} if before is None else before.exports)

    def _cells(self, image: np.ndarray, predicted: Predicted, path: Path) -> Cells:
        segmentation = predicted.segmentation
        names = self.selected.class_names or default_names(segmentation.classes.max(initial=1))
        size = read_pixel_size(path) if self.exports.pixel_size is None else self.exports.pixel_size
        return Cells(
            name=self.inputs.name(path),
            image=image,
            segmentation=segmentation,
            class_names=names,
            display=to_display_rgb,
            colour_of=colour_of,
            pixel_size=size,
            radius=self.exports.radius,
            uncertainty=predicted.uncertainty if self.exports.uncertainty else None,
        )

    def _write(
        self, key: str, cells: Cells, predicted: Predicted, before: Finished, missing: Sequence[str]
    ) -> Finished:
        """Writes the missing formats of an image."""
        frame = self._frames[key]
        for name in missing:
            for file, write in self.exports.paths(name, self.out / key, frame).items():
                with self._written.replacing(file):
                    write(cells, file)
        written = self.exports.all_settings(missing, frame)
        finished = before._replace(exports={**before.exports, **written})
        if "csv" in missing:
            finished = finished._replace(table=cells.table)
        if "coco" in missing:
            annotations = predicted.annotations
            if annotations is None:
                annotations = coco.segmentation_annotations(cells.segmentation)
            finished = finished._replace(annotations=annotations)
        return finished

    def _write_tables(self) -> None:
        sources = {self.inputs.name(path): path for path in self.inputs.images.values()}
        reached, formats = {*self._done, *self._failed}, self.exports.formats
        method = "" if {"csv", "coco"}.isdisjoint(formats) else self._method
        missing = functools.partial(self._missing, exports=self.exports)
        with writing(self.out):
            # Without a digest of the reading, no image was begun.
            if self._method or not self.selected.digest:
                earlier = earlier_images(self._finished, self.inputs, reached, method, missing)
                write_tables(self.out, earlier | self._done, formats, self.selected.class_names)
            write_failures(self.out, self._failed, self._done, sources)
