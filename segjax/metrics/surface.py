"""Distances between the boundaries of classes: Hausdorff distance, surface Dice, boundary F1."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
from scipy import ndimage

from segjax.metrics.counts import Counts
from segjax.settings import NonNegative, Settings
from segjax.typing import IGNORE


@dataclasses.dataclass(frozen=True)
class SurfaceOptions(Settings):
    """How boundaries are compared.

    Attributes:
      tolerance: distance up to which a pixel of a boundary is right, pixels.
    """

    tolerance: NonNegative = 2.0


@dataclasses.dataclass(frozen=True)
class SurfaceScores:
    """Scores of the boundary of a class; NaN where undefined.

    Attributes:
      hausdorff_95: mean of the larger of the two 95th percentiles of the distances from one boundary to the
        other, over the images with both, pixels.
      one_sided: number of images with only one of the two boundaries, which have no distance.
      surface_dice: fraction of the pixels of both boundaries within the tolerance of the other.
      boundary_precision: fraction of the predicted boundary within the tolerance of the true one.
      boundary_recall: fraction of the true boundary within the tolerance of the predicted one.
      boundary_f1: harmonic mean of both.
    """

    hausdorff_95: float
    one_sided: int
    surface_dice: float
    boundary_precision: float
    boundary_recall: float
    boundary_f1: float


@dataclasses.dataclass(frozen=True, eq=False)
class SurfaceStatistics(Counts):
    """Counts of pixels of the boundaries of one class.

    Attributes:
      options: how boundaries were compared.
      true: pixels of the true boundary.
      predicted: pixels of the predicted boundary.
      true_near: pixels of the true boundary within the tolerance of the predicted one.
      predicted_near: the same the other way round.
      hausdorff_95: for each image with a boundary, the distance, infinite if it has only one of the two.
    """

    SAME: ClassVar[tuple[str, ...]] = ("options",)

    options: SurfaceOptions
    true: int = 0
    predicted: int = 0
    true_near: int = 0
    predicted_near: int = 0
    hausdorff_95: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        prediction: np.ndarray,
        options: SurfaceOptions = SurfaceOptions(),
        index: int = 1,
    ) -> SurfaceStatistics:
        """Counts one class of one image.

        The boundary of a class is the set of its pixels with at least one of four neighbours outside, as in
        MONAI; the edge of the image is no boundary where it cuts the class. Pixels with an ignored neighbour
        are not counted.

        Args:
          truth: [H, W] int, the class of each pixel, `IGNORE` where it is not evaluated.
          prediction: [H, W] int, the class of each pixel.
          options: how boundaries are compared.
          index: the class.
        """
        hidden = ndimage.binary_dilation(truth == IGNORE) if (truth == IGNORE).any() else None
        boundaries = [_boundary(side == index, hidden) for side in (truth, prediction)]
        true, predicted = (int(np.count_nonzero(boundary)) for boundary in boundaries)
        if not true and not predicted:
            return cls(options)
        if not true or not predicted:
            return cls(options, true, predicted, hausdorff_95=(math.inf,))
        window = ndimage.find_objects(boundaries[0] | boundaries[1], max_label=1)[0]
        first, second = (boundary[window] for boundary in boundaries)
        distances = [
            ndimage.distance_transform_edt(~other)[one] for one, other in ((first, second), (second, first))
        ]
        true_near, near = (int(np.count_nonzero(distance <= options.tolerance)) for distance in distances)
        largest = max(float(np.percentile(distance, 95)) for distance in distances)
        return cls(options, true, predicted, true_near, near, (largest,))

    def compute(self) -> SurfaceScores:
        """Returns the scores of the pooled counts; 0 / 0 is NaN without a boundary, else 0."""

        def ratio(numerator: int, denominator: int) -> float:
            if self.true + self.predicted == 0:
                return math.nan
            return numerator / denominator if denominator else 0.0

        distances = [distance for distance in self.hausdorff_95 if math.isfinite(distance)]
        precision = ratio(self.predicted_near, self.predicted)
        recall = ratio(self.true_near, self.true)
        total = precision + recall
        return SurfaceScores(
            hausdorff_95=math.fsum(distances) / len(distances) if distances else math.nan,
            one_sided=len(self.hausdorff_95) - len(distances),
            surface_dice=ratio(self.true_near + self.predicted_near, self.true + self.predicted),
            boundary_precision=precision,
            boundary_recall=recall,
            boundary_f1=2 * precision * recall / total if total > 0 else total,
        )


def _boundary(mask: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Returns the pixels of a mask that have a neighbour of four outside, without hidden ones."""
    boundary: np.ndarray = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return boundary if hidden is None else boundary & ~hidden
