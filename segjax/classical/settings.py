"""Settings of the classical methods."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from segjax.errors import InputError, choose
from segjax.settings import Count, Fraction, NonNegative, NonNegativeInt, Positive, Range, Settings

SPACES = ("grid", "colour")
GROWTHS = ("power", "circle")
# Typical diameter of cells, in pixels, for which lengths and areas are stated.
REFERENCE_DIAMETER = 27.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreground(Settings):
    """Settings of the foreground.

    Lengths and areas of all settings are for cells of `REFERENCE_DIAMETER`. They grow with the cells, see
    `segjax.classical.scale`.

    Attributes:
      diameter: typical diameter of the cells of the images, pixels; None estimates it for each image.
      gamma: exponent of the contrast; below 1, dim cells stand out more.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      max_hole: largest hole to fill, pixels.
    """

    diameter: Positive | None = None
    gamma: Positive = 0.5
    bright: bool | None = None
    stained: bool | None = None
    max_hole: NonNegativeInt = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splitting(Settings):
    """Settings of the splitting of the foreground into instances.

    Attributes:
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      min_area: smallest instance to keep, pixels.
    """

    smoothing: NonNegative = 1.5
    min_area: NonNegativeInt = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeakSplitting(Splitting):
    """Settings of `split_at_peaks`.

    Attributes:
      h: height of the h-maxima used as seeds, pixels; see `segjax.segmentation.split_touching.peaks`.
    """

    h: Positive = 0.75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watershed(PeakSplitting, Foreground):
    """Settings of `watershed`.

    The defaults were tuned on training images of BBBC038 and MNFinder, and on a sample of StarDist.

    Attributes:
      sigma: standard deviation of the Gaussian before the threshold, pixels.
      window: side of the local-mean window, pixels; 0 uses the global threshold. See `otsu_threshold`.
      threshold_fraction: fraction of the threshold that a pixel above its local mean must exceed.
      small_fraction: instances smaller than this fraction of the typical area get `small_class`, all others
        class 1. With 0, all get class 1. The typical area is the area-weighted median: half of the foreground
        lies in instances at least as large. Debris hardly affects it.
      small_class: class of small instances, for example micronuclei.
    """

    gamma: Positive = 1.0
    max_hole: NonNegativeInt = 100
    h: Positive = 0.6
    sigma: NonNegative = 0.5
    window: NonNegativeInt = 51
    threshold_fraction: NonNegative = 0.5
    small_fraction: Fraction = 0.0
    small_class: Count = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naive(Splitting, Foreground):
    """Settings of `naive`.

    Attributes:
      window: side of the local-mean window, pixels; 0 uses the global threshold. See `otsu_threshold`.
      threshold_fraction: fraction of the threshold that a pixel above its local mean must exceed.
      min_core: smallest piece that counts when a component breaks, pixels.
    """

    gamma: Positive = 1.0
    max_hole: NonNegativeInt = 100
    window: NonNegativeInt = 61
    threshold_fraction: NonNegative = 0.75
    min_core: NonNegativeInt = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Radius(Splitting, Foreground):
    """Settings of `radius`.

    Attributes:
      sigma: standard deviation of the Gaussian before the threshold, pixels.
      min_radius: smallest circle, pixels. A component with only smaller circles keeps its largest.
      eps: largest distance between neighbouring circles of one cell, in units of the smaller radius.
      growth: "power" assigns all foreground pixels; "circle" stops at `alpha` times the radius.
      alpha: size limit of growth="circle", in units of the radius.
    """

    max_hole: NonNegativeInt = 100
    sigma: NonNegative = 1.0
    min_radius: NonNegative = 2.5
    eps: Positive = 0.6
    growth: str = "power"
    alpha: Positive = 1.6

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(GROWTHS, "growth", self.growth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanShift(PeakSplitting, Foreground):
    """Settings of `mean_shift`.

    Attributes:
      space: "grid" or "colour".
      sigma: standard deviation of the Gaussian before the threshold or the clustering, pixels.
      bandwidth: "grid": standard deviation of the kernel, pixels, whatever the diameter of the cells; None
        is `bandwidth_fraction` times the typical radius, the weighted median radius of the inscribed circles.
        "colour": radius of the kernel, in units in which the longer side of the image is 6 and the range of
        contrast is 12; None is 1.5.
      bandwidth_fraction: default bandwidth of "grid", as a fraction of the typical radius.
      merge: largest distance between modes of one cell, pixels; "grid" only.
      steps: maximum number of mean-shift steps.
      num_groups: number of mode groups; "colour" only, as is `h`.
    """

    gamma: Positive = 0.7
    max_hole: NonNegativeInt = 100
    space: str = "grid"
    sigma: NonNegative = 1.0
    bandwidth: Positive | None = None
    bandwidth_fraction: Positive = 0.2
    merge: NonNegative = 2.5
    steps: Count = 60
    num_groups: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(SPACES, "space", self.space)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KMeans(PeakSplitting, Foreground):
    """Settings of `kmeans`.

    Attributes:
      features: names of pixel features, keys of `segjax.classical.features.FEATURES`.
      num_clusters: K; None calls `suggest_clusters`. Images with fewer distinct pixels get fewer clusters.
      foreground_clusters: number of brightest clusters that form the foreground; None takes all clusters
        whose mean is above Otsu's threshold, at least the brightest.
      restarts: number of random initialisations.
      seed: seed of the random number generator.
    """

    gamma: Positive = 0.7
    max_hole: NonNegativeInt = 100
    h: Positive = 1.0
    features: tuple[str, ...] = ("basic",)
    num_clusters: Annotated[int, Range(2)] | None = 4
    foreground_clusters: Count | None = None
    restarts: Count = 4
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        count, foreground = self.num_clusters, self.foreground_clusters
        if not self.features:
            raise InputError("features is empty: there is nothing to cluster", field="features")
        if foreground is not None and count is not None and foreground >= count:
            raise InputError(
                f"foreground_clusters is {foreground}: it must be below num_clusters={count}",
                field="foreground_clusters",
            )
