"""Mean-shift segmentation: pixels climb a density to its modes, and close modes are merged."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage.measure import label

from segjax.classical.contrast import contrast, otsu_foreground, otsu_level
from segjax.classical.features import BLOCK
from segjax.classical.radius import inscribed_circles
from segjax.classical.scale import at_scale
from segjax.classical.settings import MeanShift
from segjax.classical.splitting import smooth_distance, split_at_peaks
from segjax.classical.stages import Stages
from segjax.ops import grid_mean_shift
from segjax.ops import mean_shift as point_mean_shift
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small, weighted_median
from segjax.segmentation.split_touching import background_distance, fill_holes

# Starts are padded to a multiple of this, to limit recompilation.
STARTS = 2**15
# "colour" only: bins across the image, intensity bins, and number of points in the density.
BINS, LEVELS, POINTS = 6, 32, 2048
# Length of the full intensity range, in bins across the image.
RANGE = 12


def mean_shift(image: np.ndarray, settings: MeanShift = MeanShift()) -> Stages:
    """Segments by the modes of a density over position, or over position and brightness.

    "grid": the density is the squared distance to the background in the foreground of `otsu_foreground`. Each
    pixel climbs this density. Single linkage merges modes closer than `merge` into one cell. A cell
    stays within its connected component of the foreground.

    "colour": pixels are binned by position and contrast, and each bin climbs the density of pixels in this
    space. Ward's linkage groups the modes by contrast. The foreground consists of the groups with a mean
    contrast above Otsu's threshold, and at least of the brightest one. `split_at_peaks` splits it.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      settings: see `MeanShift`.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used.

    References:
      Comaniciu and Meer, https://doi.org/10.1109/34.1000236
    """
    intensity = contrast(image, bright=settings.bright, stained=settings.stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    settings = at_scale(settings, intensity)
    if settings.space == "colour":
        blurred = ndimage.gaussian_filter(intensity, settings.sigma) ** settings.gamma
        foreground, maps = _bright_groups(blurred, settings)
        foreground = fill_holes(foreground, settings.max_hole)
        distance = background_distance(foreground)
        labels, seeds, _ = split_at_peaks(distance, foreground, settings)
    else:
        foreground = otsu_foreground(intensity, settings, sigma=settings.sigma)
        distance = smooth_distance(foreground, settings.smoothing)
        labels, seeds, shift = _climb(distance, foreground, settings)
        labels, maps = remove_small(labels, settings.min_area), {"shift": shift}
    named = {"contrast": intensity, "distance": distance} | maps
    return Stages(named, foreground, seeds, Segmentation.from_labels(labels))


def merge_modes(modes: np.ndarray, *, distance: float) -> np.ndarray:
    """Merges modes by single linkage, cut at a distance.

    The clusters are the connected components of the graph of close pairs. Only these pairs need memory.

    Args:
      modes: [N, D] float.
      distance: largest distance at which two modes are joined.

    Returns:
      [N] int, the cluster of each mode, 0..M-1.
    """
    if not len(modes):
        return np.zeros(0, int)
    # Thousands of pixels have nearly the same mode; rounding to a tenth of a pixel merges these.
    positions, position_index = np.unique(np.round(modes, 1), axis=0, return_inverse=True)
    pairs = KDTree(positions).query_pairs(distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(positions),) * 2)
    return connected_components(graph, directed=False)[1][position_index.ravel()]


def _climb(
    distance: np.ndarray, foreground: np.ndarray, settings: MeanShift
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels [H, W], mean modes [N, 2] and the length of each pixel's first step [H, W]."""
    height, width = foreground.shape
    labels = np.zeros(foreground.shape, np.int32)
    if not foreground.any():
        return labels, np.zeros((0, 2)), np.zeros(foreground.shape)
    parts = label(foreground, connectivity=2)
    bandwidth = settings.bandwidth
    if bandwidth is None:
        circles = inscribed_circles(distance, parts, min_radius=2.5)
        radii = distance[tuple(circles.T)]
        bandwidth = max(settings.bandwidth_fraction * weighted_median(radii, radii**2), 0.5)
    weights = np.pad(distance**2, ((0, -height % BLOCK), (0, -width % BLOCK)))
    field = grid_mean_shift.grid_shift(weights, bandwidth=float(bandwidth))
    pixels = np.argwhere(foreground)
    starts = np.pad(pixels, ((0, -len(pixels) % STARTS), (0, 0)), mode="edge")
    ends = grid_mean_shift.follow(field, starts, steps=settings.steps, tolerance=0.02)
    modes = np.asarray(ends)[: len(pixels)]
    cluster = merge_modes(modes, distance=settings.merge)
    # A cell stays within its connected component of the foreground.
    pairs = np.column_stack([parts[foreground], cluster])
    pixel_index = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
    labels[foreground] = pixel_index + 1
    sizes = np.bincount(pixel_index)
    seeds = np.column_stack([np.bincount(pixel_index, modes[:, axis]) / sizes for axis in range(2)])
    return labels, seeds, np.linalg.norm(np.asarray(field)[:height, :width], axis=-1)


def _bright_groups(intensity: np.ndarray, settings: MeanShift) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the foreground [H, W] and two maps: the contrast of each pixel's mode, and its group."""
    height, width = intensity.shape
    side = max(height, width) / BINS
    y, x = np.mgrid[:height, :width]
    space = np.stack([y / side, x / side, intensity * RANGE], axis=-1).reshape(-1, 3)
    bins = (space[:, 0].astype(int) * (BINS + 1) + space[:, 1].astype(int)) * (LEVELS + 1)
    bins += (intensity.ravel() * LEVELS).astype(int)
    pixel_index = np.unique(bins, return_inverse=True)[1].ravel()
    sizes = np.bincount(pixel_index)
    starts = np.column_stack([np.bincount(pixel_index, space[:, axis]) / sizes for axis in range(3)])
    sampled = np.linspace(0, len(space) - 1, min(POINTS, len(space))).astype(int)
    points = np.zeros((POINTS, 3), np.float32)
    points[: len(sampled)] = space[sampled]
    padded = np.pad(starts, ((0, -len(starts) % 256), (0, 0)), mode="edge")
    valid = np.arange(POINTS) < len(sampled)
    bandwidth = settings.bandwidth or 1.5
    modes = point_mean_shift.mean_shift(points, valid, padded, bandwidth=bandwidth, max_steps=settings.steps)
    levels = np.asarray(modes)[: len(starts), 2]
    groups = np.ones(len(levels), int)
    if len(levels) > 1:
        groups = fcluster(linkage(levels[:, None], "ward"), settings.num_groups, "maxclust")
    pixel_groups = groups[pixel_index]
    sums = np.bincount(pixel_groups, intensity.ravel()) / np.maximum(np.bincount(pixel_groups), 1)
    is_bright = sums > min(otsu_level(intensity), sums.max() - 1e-12)
    rank = np.argsort(np.argsort(sums))
    maps = {"mode": levels[pixel_index] / RANGE, "group": rank[pixel_groups].astype(float)}
    foreground = is_bright[pixel_groups].reshape(height, width)
    return foreground, {name: values.reshape(height, width) for name, values in maps.items()}
