"""Mean-shift segmentation: pixels climb a density to its modes, and close modes are merged."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage.filters import threshold_otsu
from skimage.measure import label

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.features import BLOCK
from segjax.classical.radius import inscribed_circles
from segjax.classical.stages import Stages
from segjax.classical.watershed import centres, weighted_median
from segjax.errors import InputError
from segjax.ops import mean_shift as climbing
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import background_distance, fill_holes, peaks, split_touching

SPACES = ("grid", "colour")
# Starts are padded to a multiple of this, to limit recompilation.
STARTS = 2**15
# "colour" only: bins across the image, intensity bins, and number of points in the density.
BINS, LEVELS, POINTS = 6, 32, 2048
# Length of the full intensity range, in bins across the image.
RANGE = 12


def mean_shift(
    image: np.ndarray,
    *,
    space: str = "grid",
    bandwidth: float | None = None,
    share: float = 0.2,
    merge: float = 2.5,
    steps: int = 60,
    num_groups: int = 3,
    gamma: float = 0.7,
    sigma: float = 1.0,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 1.0,
    h: float = 0.75,
    min_area: int = 20,
    max_hole: int = 100,
) -> Stages:
    """Segments by the modes of a density over position, or over position and brightness.

    "grid": the foreground of `otsu_foreground` is weighted by its squared distance to the background, and
    each pixel climbs that density. Single linkage merges modes closer than `merge` into one
    cell. A cell stays within its connected component of the foreground.

    "colour": bins of position and contrast climb the density of pixels in that space. Their modes are grouped
    by Ward's linkage; groups whose mean contrast is above Otsu's threshold, at least the brightest, are the
    foreground, which `split_touching` splits.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      space: "grid" or "colour".
      bandwidth: "grid": standard deviation of the kernel, pixels; None is `share` of the typical radius,
        which is the weighted median of those of the inscribed circles. "colour": radius of the kernel, where
        the image has a length of 6 and the contrast one of 12; None is 1.5.
      share: default bandwidth of "grid", as a fraction of the typical radius.
      merge: largest distance between modes of one cell, pixels; "grid" only.
      steps: maximum number of mean-shift steps.
      num_groups: number of mode groups; "colour" only.
      gamma: exponent of the contrast.
      sigma: standard deviation of the Gaussian before the threshold or the clustering, pixels.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      h: height of the h-maxima used as seeds, pixels; "colour" only.
      min_area: smallest instance to keep, pixels.
      max_hole: largest hole to fill, pixels.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used, or a setting makes no sense.

    References:
      Comaniciu and Meer, https://doi.org/10.1109/34.1000236
    """
    if space not in SPACES:
        raise InputError(f"space={space!r} is unknown: choose one of {', '.join(SPACES)}")
    if bandwidth is not None and not 0 < bandwidth < np.inf:
        raise InputError(f"bandwidth is {bandwidth}, but must be above 0")
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    if space == "colour":
        foreground, maps = _bright_groups(
            ndimage.gaussian_filter(intensity, sigma) ** gamma, bandwidth or 1.5, num_groups, steps
        )
        foreground = fill_holes(foreground, max_hole)
        distance = background_distance(foreground)
        markers = peaks(ndimage.gaussian_filter(distance, smoothing), foreground, h)
        labels = split_touching(foreground, distance, seeds=markers, smoothing=smoothing, min_area=min_area)
        seeds = centres(markers)
    else:
        foreground = fill_holes(otsu_foreground(intensity, sigma=sigma, gamma=gamma), max_hole)
        distance = ndimage.gaussian_filter(background_distance(foreground), smoothing) * foreground
        labels, seeds, shift = _climb(distance, foreground, bandwidth, share, merge, steps)
        labels[np.bincount(labels.ravel())[labels] < min_area] = 0
        maps = {"shift": shift}
    named = {"contrast": intensity, "distance": distance} | maps
    return Stages(named, foreground, seeds, Segmentation.from_labels(labels))


def merge_modes(modes: np.ndarray, *, distance: float) -> np.ndarray:
    """Merges modes by single linkage, cut at a distance.

    Computed as the connected components of the graph of close pairs; only these pairs need memory.

    Args:
      modes: [N, D] float.
      distance: largest distance at which two modes are joined.

    Returns:
      [N] int, the cluster of each mode, 0..M-1.
    """
    if not len(modes):
        return np.zeros(0, int)
    # Thousands of pixels share a mode, so positions are rounded to a tenth of a pixel.
    positions, position_index = np.unique(np.round(modes, 1), axis=0, return_inverse=True)
    pairs = KDTree(positions).query_pairs(distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(positions),) * 2)
    return connected_components(graph, directed=False)[1][position_index.ravel()]


def _climb(
    distance: np.ndarray,
    foreground: np.ndarray,
    bandwidth: float | None,
    share: float,
    merge: float,
    steps: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels [H, W], mean modes [N, 2] and the length of each pixel's first step [H, W]."""
    height, width = foreground.shape
    labels = np.zeros(foreground.shape, np.int32)
    if not foreground.any():
        return labels, np.zeros((0, 2)), np.zeros(foreground.shape)
    parts = label(foreground, connectivity=2)
    if bandwidth is None:
        circles = inscribed_circles(distance, parts, min_radius=2.5)
        radii = distance[tuple(circles.T)]
        bandwidth = max(share * weighted_median(radii, radii**2), 0.5)
    weights = np.pad(distance**2, ((0, -height % BLOCK), (0, -width % BLOCK)))
    field = climbing.grid_shift(weights, bandwidth=float(bandwidth))
    pixels = np.argwhere(foreground)
    starts = np.pad(pixels, ((0, -len(pixels) % STARTS), (0, 0)), mode="edge")
    modes = np.asarray(climbing.follow(field, starts, steps=steps, tolerance=0.02))[: len(pixels)]
    cluster = merge_modes(modes, distance=merge)
    # A cell stays within its connected component of the foreground.
    pair = np.column_stack([parts[foreground], cluster])
    _, pixel_index = np.unique(pair, axis=0, return_inverse=True)
    pixel_index = pixel_index.ravel()
    labels[foreground] = pixel_index + 1
    sizes = np.bincount(pixel_index)
    seeds = np.column_stack([np.bincount(pixel_index, modes[:, axis]) / sizes for axis in range(2)])
    return labels, seeds, np.linalg.norm(np.asarray(field)[:height, :width], axis=-1)


def _bright_groups(
    intensity: np.ndarray, bandwidth: float, num_groups: int, steps: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the foreground [H, W] and two maps: the contrast of each pixel's mode, and its group."""
    height, width = intensity.shape
    side = max(height, width) / BINS
    y, x = np.mgrid[:height, :width]
    space = np.stack([y / side, x / side, intensity * RANGE], axis=-1).reshape(-1, 3)
    bins = (space[:, 0].astype(int) * (BINS + 1) + space[:, 1].astype(int)) * (LEVELS + 1)
    bins += (intensity.ravel() * LEVELS).astype(int)
    _, pixel_index = np.unique(bins, return_inverse=True)
    pixel_index = pixel_index.ravel()
    sizes = np.bincount(pixel_index)
    starts = np.column_stack([np.bincount(pixel_index, space[:, axis]) / sizes for axis in range(3)])
    capacity = 256
    sampled = np.linspace(0, len(space) - 1, min(POINTS, len(space))).astype(int)
    points = np.zeros((POINTS, 3), np.float32)
    points[: len(sampled)] = space[sampled]
    padded = np.pad(starts, ((0, -len(starts) % capacity), (0, 0)), mode="edge")
    valid = np.arange(POINTS) < len(sampled)
    modes = np.asarray(climbing.mean_shift(points, valid, padded, bandwidth=bandwidth, max_steps=steps))
    levels = modes[: len(starts), 2]
    groups = np.ones(len(levels), int)
    if len(levels) > 1:
        groups = fcluster(linkage(levels[:, None], "ward"), num_groups, "maxclust")
    pixel_groups = groups[pixel_index]
    sums = np.bincount(pixel_groups, intensity.ravel()) / np.maximum(np.bincount(pixel_groups), 1)
    level = threshold_otsu(intensity) if intensity.min() < intensity.max() else np.inf
    is_bright = sums > min(level, sums.max() - 1e-12)
    rank = np.argsort(np.argsort(sums))
    maps = {"mode": levels[pixel_index] / RANGE, "group": rank[pixel_groups].astype(float)}
    foreground = is_bright[pixel_groups].reshape(height, width)
    return foreground, {name: values.reshape(height, width) for name, values in maps.items()}
