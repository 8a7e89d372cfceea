"""Segments a user's own images."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import math
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.classical.measurements import measure
from segjax.data.pixel_size import is_plausible, question, read_pixel_size
from segjax.data.readers import unreadable
from segjax.errors import InputError
from segjax.experiment.finished_images import Finished, FinishedImages
from segjax.experiment.methods import OpenedMethod, open_method, open_run
from segjax.experiment.prediction_inputs import Inputs, Reading, describe, find_inputs, number_of
from segjax.experiment.prediction_tables import MEASUREMENTS, default_names, result_paths, write_tables
from segjax.experiment.results_folder import FAILED, join_first, open_results, refused, writing
from segjax.files import file_digest, printable
from segjax.inference import coco
from segjax.inference.exports import is_result, result_path, write_label_images, write_overlay
from segjax.inference.predictor import Detector
from segjax.inference.tables import write_table
from segjax.report.overlays import draw_outlines, legend, to_display_rgb
from segjax.segmentation import Segmentation
from segjax.train.interruption import interruption

AS_STORED = Reading()
# The network in the package that segments if no other method is given.
DEFAULT = "nuclei"


def select_method(workdir: Path | None, config: ConfigDict | None, model: str | None = None) -> OpenedMethod:
    """Opens the method of a trained run, of a config that needs no training, or of an exported network.

    Raises:
      InputError: if more than one of the three is given, or it names no method.
    """
    if [workdir, config, model].count(None) < 2:
        raise InputError(
            "give only one of --workdir=RUN, a trained run, --model=FILE, an exported network, and"
            " --config=FILE, a classical method"
        )
    return open_run(workdir) if workdir is not None else open_method(config or model or DEFAULT)


def predict(
    selected: OpenedMethod,
    images: Path,
    out: Path,
    *,
    measured: bool = False,
    pixel_size: float | None = None,
    as_coco: bool = False,
    reading: Reading = AS_STORED,
) -> Prediction:
    """Checks everything that can be checked before the first image is segmented.

    Args:
      selected: the result of `select_method`.
      images: one image, or a folder, which is searched with its subfolders.
      out: folder in which `<stem>_labels.tif`, `<stem>_classes.tif` and `<stem>_overlay.png` are written, in
        the same subfolders as the images. It may be the folder of images.
      measured: whether to measure the instances: `<stem>_measurements.csv`, and of all images together
        `measurements.csv` and `measurements.parquet`.
      pixel_size: side of a pixel in micrometres, for the measurements; that of each file if None.
      as_coco: whether to write `predictions.json`, all instances in COCO's format: of a detector its boxes
        and full masks, of other methods the instances of the label map.
      reading: how files become images.

    Returns:
      The prediction; iterating over it segments the images.

    Raises:
      InputError: if there is no image, `out` cannot be written, or the pixel size is not above 0.
    """
    if pixel_size is not None and not 0 < pixel_size < math.inf:
        raise InputError(
            f"--pixel_size={pixel_size} must be above 0: give the side of a pixel in micrometres"
        )
    if pixel_size is not None and not is_plausible(pixel_size):
        logging.warning("--pixel_size states %s", question(pixel_size))
    inputs = find_inputs(images, out)
    open_results(out)
    return Prediction(selected, inputs, out, measured, pixel_size, as_coco, reading)


@dataclasses.dataclass(eq=False)
class Prediction:
    """The segmentation of a folder; an iteration yields each finished image, and its number of instances.

    An image that an earlier run finished with an equal method is not segmented again. Every file is written
    completely or not at all. The tables of all images are written at the end. SIGTERM and Ctrl-C end the
    iteration after the image in progress, a second Ctrl-C at once; the tables are written then, too.

    The fields are the arguments of `predict`.

    Raises:
      InputError: on iteration; after all others are finished, if images could not be segmented, and at once
        if nothing can be written.
      Interrupted: on iteration, after SIGTERM or Ctrl-C.
    """

    selected: OpenedMethod
    inputs: Inputs
    out: Path
    measured: bool
    pixel_size: float | None
    as_coco: bool
    reading: Reading

    def __post_init__(self) -> None:
        self._finished = FinishedImages(self.out)
        # By the name of the image.
        self._done: dict[str, Finished] = {}
        self._failed: dict[str, str] = {
            self.inputs.name(folder): reason for folder, reason in self.inputs.unreadable.items()
        }
        self._repeated = 0

    def __iter__(self) -> Iterator[tuple[Path, int]]:
        """Segments the images."""
        # An exception in the middle of an image could be swallowed, and would count as its failure.
        with interruption() as asked:
            asked.arm()
            try:
                progress = tqdm(self.inputs.images.items(), unit="image", desc="predict", dynamic_ncols=True)
                for key, path in progress:
                    if asked.number is not None:
                        raise KeyboardInterrupt
                    finished = self._try(key, path)
                    if finished is not None:
                        self._done[self.inputs.name(path)] = finished
                        yield path, finished.instances
            except KeyboardInterrupt:
                raise asked.interrupted(
                    f"stopped after {len(self._done)} of {len(self.inputs.images)} images; the same command"
                    " resumes from there"
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
        """What is done, and what is left out and why."""
        instances = number_of(sum(image.instances for image in self._done.values()), "instance")
        images = number_of(len(self._done), "image")
        repeated = f" ({self._repeated} of them finished before)" if self._repeated else ""
        failed = f"; {len(self._failed)} failed" if self._failed else ""
        return printable(
            f"{instances} in {images}{repeated}: {self.out}{failed}{describe(self.inputs.left_out)}"
        )

    def _try(self, key: str, path: Path) -> Finished | None:
        """Segments an image; returns None, and remembers the reason, if that fails."""
        try:
            return self._one(key, path)
        except InputError as error:
            reason = str(error)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                reason = f"the results of {path} cannot be named: shorten the name of the image"
            elif error.filename is None or Path(error.filename).is_relative_to(self.out):
                raise refused(error, self.out) from error
            else:
                reason = str(unreadable(error.filename, error))
        except Exception as error:  # one image never costs the others
            logging.log_first_n(logging.ERROR, "%s", 1, traceback.format_exc())
            reason = f"{path} could not be segmented ({type(error).__name__}: {error})"
        self._failed[self.inputs.name(path)] = printable(reason)
        return None

    def _one(self, key: str, path: Path) -> Finished:
        if printable(key) != key:
            raise InputError(f"{path} has a name that is not UTF-8: rename it")
        stem = self.out / key
        exist = [result.exists() for result in result_paths(stem, measured=self.measured)]
        digest = self._digest(path)
        before = self._finished.read(key)
        if before is not None and all(exist) and self._is_complete(before, digest):
            self._repeated += 1
            return before
        self._check_overwritten(stem)
        image = self.reading.read(path, self.selected.channels)
        self._finished.forget(key)
        finished = self._write(image, stem, path, digest)
        self._finished.write(key, finished)
        return finished

    def _write(self, image: np.ndarray, stem: Path, path: Path, digest: str) -> Finished:
        segmentation, annotations = self._segment(image)
        write_label_images(segmentation, stem)
        names = self.selected.class_names or default_names(segmentation.classes.max(initial=1))
        write_overlay(legend(draw_outlines(to_display_rgb(image), segmentation), names), stem)
        table = None
        if self.measured:
            size = read_pixel_size(path) if self.pixel_size is None else self.pixel_size
            table = measure(image, segmentation, pixel_size=size, class_names=names)
            write_table([table], result_path(stem, MEASUREMENTS))
        return Finished(
            digest, segmentation.num_instances, segmentation.shape, table, self.pixel_size, annotations
        )

    def _segment(self, image: np.ndarray) -> tuple[Segmentation, list[coco.Annotation] | None]:
        method = self.selected.method
        if self.as_coco and isinstance(method, Detector):
            detections = method.detect(image)
            annotations = coco.detection_annotations(detections, threshold=self.selected.mask_threshold)
            return method.segment(detections), annotations
        segmentation = method(image)
        return segmentation, coco.segmentation_annotations(segmentation) if self.as_coco else None

    def _digest(self, path: Path) -> str:
        try:
            content = file_digest(path)
        except OSError as error:
            raise unreadable(path, error) from error
        return hashlib.sha256(f"{content} {self.selected.digest} {self.reading}".encode()).hexdigest()

    def _is_complete(self, image: Finished, digest: str) -> bool:
        """Returns whether an earlier result is that of the same method, and has all that is asked for."""
        return (
            bool(self.selected.digest)
            and image.digest == digest
            and (not self.measured or (image.table is not None and image.pixel_size == self.pixel_size))
            and (not self.as_coco or image.annotations is not None)
        )

    def _check_overwritten(self, stem: Path) -> None:
        """Refuses to replace a picture that was not written by a prediction, such as an annotation."""
        for path in result_paths(stem, measured=False):
            if path.exists() and not is_result(path):
                raise InputError(
                    f"{path} exists, and was not written by segjax predict or was changed since: move it, or"
                    " give another --out"
                )

    def _write_tables(self) -> None:
        with writing(self.out):
            write_tables(
                self.out,
                self._done,
                self._failed,
                measured=self.measured,
                as_coco=self.as_coco,
                class_names=self.selected.class_names,
            )
