"""All checks of one image with its annotation."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from segjax.datasets.checks import pixels
from segjax.datasets.checks.annotation import check_annotation
from segjax.datasets.checks.findings import Finding, is_excluded
from segjax.datasets.formats.annotation import RawAnnotation
from segjax.segmentation import Segmentation


class CheckResult(NamedTuple):
    """The result of checking one image.

    Attributes:
      truth: the repaired annotation; None if the image is excluded.
      findings: in the order of the checks.
    """

    truth: Segmentation | None
    findings: tuple[Finding, ...]


def check_image(
    image: np.ndarray, annotation: RawAnnotation, *, num_classes: int, accept: Collection[str] = ()
) -> CheckResult:
    """Checks one image and its annotation.

    Args:
      image: [H, W, C] uint8, uint16 or float32.
      annotation: the annotation of this image.
      num_classes: K, with background.
      accept: kinds of findings that do not exclude an image, such as `empty_mask` for images without cells.
        An annotation that cannot become a segmentation excludes it nevertheless.
    """
    if not image.size:
        return CheckResult(None, tuple(pixels.check_pixels(image)))
    truth, mask_findings = check_annotation(annotation, image.shape[:2], num_classes=num_classes)
    findings = pixels.check_pixels(image, None if truth is None else truth.labels > 0) + mask_findings
    if any(finding.kind == "not_finite" for finding in findings) or is_excluded(findings, accept):
        truth = None
    return CheckResult(truth, tuple(findings))
