"""Mean shift with hierarchical clustering: pixels climb to the middle of their cell, or to a typical tone.

Both variants count points on a grid, so that a step of mean shift is a ratio of convolutions, and let all
starts climb at once. The modes where they end are then merged by a hierarchical clustering.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import label

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.stages import Stages
from segjax.classical.watershed import centres, fill_holes, peaks, split_touching
from segjax.errors import InputError
from segjax.ops.mean_shift import follow, grid_shift
from segjax.segmentation import Segmentation

# Grids are filled up to multiples of this, and starts go in blocks, so that few programs are compiled.
_MULTIPLE = 128
_BLOCK = 1 << 16
# A climb ends when no start of a block moves farther than this in a step, nodes.
_REST = 1e-2
# What is told of the tones of an image to Ward's clustering, whose cost is quadratic.
_TONES = 1000
# Nodes of the grid of tones from black to white.
_LEVELS = 32


def mean_shift(
    image: np.ndarray,
    *,
    space: str = "grid",
    bandwidth: float | None = None,
    share: float = 0.3,
    merge: float = 2.5,
    steps: int = 60,
    tone: float = 0.08,
    num_groups: int = 3,
    num_bright: int = 2,
    gamma: float = 0.3,
    sigma: float = 0.5,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 2.0,
    h: float = 0.75,
    min_area: int = 20,
    max_hole: int = 0,
) -> Stages:
    """docstring."""
    if space not in ("grid", "colour"):
        raise InputError(f'space must be "grid" or "colour", not "{space}"')
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    foreground = fill_holes(otsu_foreground(intensity, sigma=sigma, gamma=gamma), max_hole)
    distance = ndimage.distance_transform_edt(foreground)
    if bandwidth is None:
        bandwidth = max(share * typical_radius(distance), 1.0)
    if space == "grid":
        labels, seeds, shift = climb(
            distance, bandwidth=bandwidth, merge=merge, steps=steps, min_area=min_area
        )
        features = {"contrast": intensity, "distance": distance, "shift": shift}
        return Stages(features, foreground, seeds, Segmentation.from_labels(labels))
    filtered = tones(intensity**gamma, bandwidth=bandwidth, tone=tone, steps=steps)
    groups = ward(filtered, num_groups)
    foreground = fill_holes(groups >= num_groups - num_bright, max_hole)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), smoothing)
    markers = peaks(distance, foreground, h)
    labels = split_touching(foreground, distance, seeds=markers, smoothing=0, min_area=min_area)
    features = {"contrast": intensity, "tone": filtered, "distance": distance}
    return Stages(features, foreground, centres(markers), Segmentation.from_labels(labels))


def typical_radius(distance: np.ndarray) -> float:
    """The median of the local maxima of a distance map [H, W] in pixels, weighted by their square.

    The square is about the area of the cell, so specks hardly count. 0 without foreground.
    """
    rising = np.sort(distance[(distance == ndimage.maximum_filter(distance, 5)) & (distance > 0)])
    area = np.cumsum(rising**2)
    return float(rising[np.searchsorted(area, area[-1] / 2)]) if rising.size else 0.0


def climb(
    distance: np.ndarray, *, bandwidth: float, merge: float, steps: int, min_area: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels."""
    foreground = distance > 0
    starts = np.argwhere(foreground)
    ends, shift = _climb(distance**2, starts, spread=(bandwidth, bandwidth), steps=steps)
    nearest = np.rint(ends).astype(np.int64)
    modes, mode_of = np.unique(nearest @ [distance.shape[1], 1], return_inverse=True)
    cluster = single_linkage(np.stack(np.divmod(modes, distance.shape[1]), -1), merge)[mode_of]
    # A cell does not reach across background: what climbed to the same mode in another part is another cell.
    part = label(foreground, connectivity=2)[foreground]
    _, instance = np.unique(
        part.astype(np.int64) * (cluster.max(initial=0) + 1) + cluster, return_inverse=True
    )
    # Few pixels that rest elsewhere, as on the line between two cells, go to their neighbours.
    size = np.bincount(instance, minlength=1)
    planted = np.zeros(distance.shape, np.int64)
    planted[foreground] = np.where(size >= min_area, np.arange(1, len(size) + 1), 0)[instance]
    labels = split_touching(foreground, distance, seeds=planted, smoothing=0, min_area=min_area)
    ids = labels[foreground]
    count = np.maximum(np.bincount(ids, minlength=1), 1)
    seeds = np.stack([np.bincount(ids, end, minlength=1) / count for end in ends.T], -1)[1:]
    return labels, seeds, np.linalg.norm(shift, axis=-1)


def _climb(
    weights: np.ndarray, starts: np.ndarray, *, spread: tuple[float, ...], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where starts [S, D] end on a grid of weights, and the first step at each node."""
    padding = [(0, -size % _MULTIPLE if size > _LEVELS else 0) for size in weights.shape]
    field = grid_shift(np.pad(weights, padding).astype(np.float32), bandwidth=spread)
    block = min(_BLOCK, 1 << max(len(starts) - 1, 1023).bit_length())
    ends = np.zeros(starts.shape, np.float32)
    for first in range(0, len(starts), block):
        some = starts[first : first + block].astype(np.float32)
        filled = np.pad(some, [(0, block - len(some)), (0, 0)], mode="edge")
        ends[first : first + block] = follow(field, filled, steps=steps, tolerance=_REST)[: len(some)]
    return ends, np.asarray(field)[tuple(slice(size) for size in weights.shape)]


def single_linkage(points: np.ndarray, distance: float) -> np.ndarray:
    """Clusters."""
    count = len(points)
    if not count:
        return np.zeros(0, np.int32)
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def tones(values: np.ndarray, *, bandwidth: float, tone: float, steps: int) -> np.ndarray:
    """Filtered."""
    height, width = values.shape
    spacing = max(bandwidth, 1.0)
    y, x = (np.arange(size) / spacing for size in (height, width))
    rows, columns = (np.rint(at).astype(np.int64) for at in (y, x))
    levels = np.rint(np.clip(values, 0, 1) * (_LEVELS - 1)).astype(np.int64)
    shape = (_LEVELS, rows[-1] + 1, columns[-1] + 1)
    nodes = (levels * shape[1] + rows[:, None]) * shape[2] + columns[None]
    counts = np.bincount(nodes.ravel(), minlength=math.prod(shape)).reshape(shape)
    spread = (tone * (_LEVELS - 1), bandwidth / spacing, bandwidth / spacing)
    starts = np.argwhere(counts)
    ends, _ = _climb(counts, starts, spread=spread, steps=steps)
    filtered = np.zeros(shape, np.float32)
    filtered[tuple(starts.T)] = ends[:, 0] / (_LEVELS - 1)
    return filtered.ravel()[nodes]


def ward(values: np.ndarray, num_groups: int) -> np.ndarray:
    """Groups."""
    sample = np.quantile(values, np.linspace(0, 1, _TONES), method="nearest")
    groups = fcluster(linkage(sample[:, None], "ward"), num_groups, "maxclust")
    tops = np.sort([sample[groups == group].max() for group in np.unique(groups)])
    cuts = tops[:-1]
    return np.searchsorted(cuts, values, side="left") + (num_groups - len(tops))
