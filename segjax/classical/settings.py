"""Settings of the classical methods."""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.errors import InputError, choose

SPACES = ("grid", "colour")
GROWTHS = ("power", "circle")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreground:
    """Settings of the foreground.

    Attributes:
      gamma: exponent of the contrast; below 1, dim cells stand out more.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      max_hole: largest hole to fill, pixels.
    """

    gamma: float = 0.5
    bright: bool | None = None
    stained: bool | None = None
    max_hole: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splitting:
    """Settings of the splitting of the foreground into instances.

    Attributes:
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      min_area: smallest instance to keep, pixels.
    """

    smoothing: float = 1.0
    min_area: int = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeakSplitting(Splitting):
    """Settings of `split_at_peaks`.

    Attributes:
      h: height of the h-maxima used as seeds, pixels; see `segjax.segmentation.split_touching.peaks`.
    """

    h: float = 0.75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watershed(PeakSplitting, Foreground):
    """Settings of `watershed`.

    The defaults were tuned on the training images of MNFinder, whose nuclei are 20 to 50 pixels wide.

    Attributes:
      sigma: standard deviation of the Gaussian before the threshold, pixels.
      window: side of the local-mean window, pixels; 0 uses the global threshold. See `otsu_threshold`.
      threshold_fraction: fraction of the threshold that a pixel above its local mean must exceed.
      small_fraction: instances smaller than this fraction of the typical area get `small_class`, all others
        class 1. With 0, all get class 1. The typical area is the area-weighted median: half of the foreground
        lies in instances at least as large. Debris hardly affects it.
      small_class: class of small instances, for example micronuclei.
    """

    gamma: float = 0.3
    smoothing: float = 3.0
    h: float = 1.0
    sigma: float = 0.5
    window: int = 0
    threshold_fraction: float = 0.75
    small_fraction: float = 0.0
    small_class: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naive(Splitting, Foreground):
    """Settings of `naive`.

    Attributes:
      window: side of the local-mean window, pixels; 0 uses the global threshold. See `otsu_threshold`.
      threshold_fraction: fraction of the threshold that a pixel above its local mean must exceed.
      min_core: smallest piece that counts when a component breaks, pixels.
    """

    gamma: float = 1.0
    max_hole: int = 100
    window: int = 101
    threshold_fraction: float = 0.75
    min_core: int = 4


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

    max_hole: int = 100
    sigma: float = 1.0
    min_radius: float = 2.5
    eps: float = 0.6
    growth: str = "power"
    alpha: float = 1.6

    def __post_init__(self) -> None:
        choose(GROWTHS, "growth", self.growth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanShift(PeakSplitting, Foreground):
    """Settings of `mean_shift`.

    Attributes:
      space: "grid" or "colour".
      sigma: standard deviation of the Gaussian before the threshold or the clustering, pixels.
      bandwidth: "grid": standard deviation of the kernel, pixels; None is `bandwidth_fraction` times the
        typical radius, the weighted median radius of the inscribed circles. "colour": radius of the kernel,
        in units in which the longer side of the image is 6 and the range of contrast is 12; None is 1.5.
      bandwidth_fraction: default bandwidth of "grid", as a fraction of the typical radius.
      merge: largest distance between modes of one cell, pixels; "grid" only.
      steps: maximum number of mean-shift steps.
      num_groups: number of mode groups; "colour" only, as is `h`.
    """

    gamma: float = 0.7
    max_hole: int = 100
    space: str = "grid"
    sigma: float = 1.0
    bandwidth: float | None = None
    bandwidth_fraction: float = 0.2
    merge: float = 2.5
    steps: int = 60
    num_groups: int = 3

    def __post_init__(self) -> None:
        choose(SPACES, "space", self.space)
        if self.bandwidth is not None and not 0 < self.bandwidth < np.inf:
            raise InputError(f"bandwidth is {self.bandwidth}, but must be above 0", field="bandwidth")


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

    features: tuple[str, ...] = ("basic",)
    num_clusters: int | None = 3
    foreground_clusters: int | None = None
    restarts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        count, foreground = self.num_clusters, self.foreground_clusters
        if not self.features:
            raise InputError("features is empty: there is nothing to cluster", field="features")
        if count is not None and count < 2:
            raise InputError(f"num_clusters is {count}, but must be at least 2", field="num_clusters")
        if foreground is not None and not 1 <= foreground < (count or np.inf):
            raise InputError(
                f"foreground_clusters is {foreground}: it must be at least 1 and below num_clusters={count}",
                field="foreground_clusters",
            )
