"""One image with its drawing: all checks, and what of it can be used."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from segjax.datasets.checks import drawings, pixels
from segjax.datasets.checks.findings import KINDS, Finding
from segjax.segmentation import Segmentation


class CheckResult(NamedTuple):
    """What became of one image's drawing.

    Attributes:
      truth: with all repairs done; None if the image is to be left out.
      findings: in the order in which they were found.
    """

    truth: Segmentation | None
    findings: tuple[Finding, ...]


def check_image(
    image: np.ndarray, drawing: drawings.Drawn, *, num_classes: int, accept: Collection[str] = ()
) -> CheckResult:
    """Examines one image and what was drawn on it.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      drawing: of this image.
      num_classes: K, the background included.
      accept: kinds that do not leave an image out although `KINDS` says so, as `empty_mask` where images
        without cells are wanted. A drawing that cannot be a segmentation is left out all the same.

    Returns:
      The truth, and what was found.
    """
    if not image.size:
        return CheckResult(None, tuple(pixels.check(image)))
    truth, found = drawings.check(drawing, image.shape[:2], num_classes=num_classes)
    found = pixels.check(image, None if truth is None else truth.labels > 0) + found
    if any(finding.kind == "not_finite" for finding in found) or is_excluded(found, accept):
        truth = None
    return CheckResult(truth, tuple(found))


def is_excluded(findings: Collection[Finding], accept: Collection[str] = ()) -> bool:
    """Whether one of the findings keeps an image out of the data set."""
    return any(KINDS[kind].action == "quarantine" and kind not in accept for kind, _ in findings)
