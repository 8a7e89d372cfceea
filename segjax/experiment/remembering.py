"""Stores the predictions of an evaluation, so that they are not repeated if it is killed and run again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from segjax.experiment.finished_images import ARRAYS, FinishedImages
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.proposal_cache import pixels_digest
from segjax.segmentation import Method, Segmentation

FOLDER = ".segjax_evaluation"
SECONDS = "seconds"


class Memory:
    """Predictions in a hidden folder beside a report, one file for each method and image.

    The name of a file is a digest of the pixels and of the method, so that a changed model, setting or image
    has no file yet. Predictions that cannot be written are computed again after a restart.

    Args:
      folder: the folder of the report.
      name: name of the hidden folder in it.

    Attributes:
      seconds: time that it took to compute the predictions that were read.
    """

    def __init__(self, folder: Path, name: str = FOLDER) -> None:
        self._folder = folder / name
        self._images = FinishedImages(folder, name)
        self.seconds = 0.0

    def arrays(
        self,
        digest: str,
        image: np.ndarray,
        compute: Callable[[], Mapping[str, np.ndarray]],
        names: Sequence[str],
    ) -> Mapping[str, np.ndarray]:
        """Returns the arrays that a method computes from an image, or the stored ones.

        Args:
          digest: digest of the method and of the kind of arrays; nothing is stored if it is "".
          image: [H, W, C], the image.
          compute: computes the arrays, by name.
          names: the names of the arrays.
        """
        if not digest:
            return compute()
        key = f"{digest} {pixels_digest(image)}"
        stored = self._images.read_arrays(key)
        if stored is not None and stored.keys() == {*names, SECONDS}:
            self.seconds += float(stored.pop(SECONDS))
            return stored
        start = time.monotonic()
        arrays = compute()
        try:
            self._images.write_arrays(key, {**arrays, SECONDS: np.array(time.monotonic() - start)})
        except OSError as error:
            logging.log_first_n(
                logging.WARNING,
                "%s cannot be written (%s): if this evaluation is stopped, the next one starts again",
                1,
                self._folder,
                error,
            )
        return arrays

    def method(self, method: Method, digest: str) -> Method:
        """Returns a method that remembers its segmentations; `digest` is that of the method."""

        def segment(image: np.ndarray) -> Segmentation:
            def compute() -> dict[str, np.ndarray]:
                segmentation = method(image)
                return {name: getattr(segmentation, name) for name in ARRAYS}

            return Segmentation(**self.arrays(digest, image, compute, ARRAYS))

        return segment

    def opened(self, opened: OpenedMethod) -> OpenedMethod:
        """Returns an opened method that remembers its segmentations."""
        return opened._replace(method=self.method(opened.method, opened.digest))

    def forget(self) -> None:
        """Removes all stored predictions; called when the report is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)
