"""Target maps: one number per pixel that tells something about its instance, such as how deep it lies inside.

They are computed once per image on the host. As scalars they can be cropped and warped like an image, also by
rotations, which a field of vectors could not; networks that predict vectors derive them on the device.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from skimage.measure import label
from skimage.transform import resize

from segjax.data.colouring import instance_colours

Target = Callable[[np.ndarray], np.ndarray]

# Equations on instances of more pixels are solved on a coarser grid, as time grows faster than the area.
LARGEST = 2**17
# Number of pixels whose equations are solved together.
GROUP = 2**18


def instance_distance(labels: np.ndarray) -> np.ndarray:
    """Returns the normalised distance to the boundary of each instance, 1 at its maximum.

    This is the Euclidean distance to the nearest pixel outside the instance, divided by its maximum over the
    instance. The image border is not a boundary: the instance may continue beyond it.

    Args:
      labels: [H, W] int32, 0 is background, gaps allowed.

    Returns:
      [H, W] float32 in [0, 1], 0 in the background.
    """
    distance = np.zeros(labels.shape, np.float32)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        # A margin of one pixel suffices: the nearest pixel outside the instance lies within it.
        grown = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = labels[grown] == index
        if inside.all():  # the instance covers the full image
            distance[grown] = 1
            continue
        depth = ndimage.distance_transform_edt(inside)
        distance[grown][inside] = (depth / depth.max())[inside]
    return distance


def coarse_if_large(target: Target) -> Target:
    """Decorates a smooth target: instances of more than `LARGEST` pixels get it from a coarser grid."""

    @functools.wraps(target)
    def compute(labels: np.ndarray) -> np.ndarray:
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        large = np.flatnonzero(areas > LARGEST)
        boxes = ndimage.find_objects(labels) if len(large) else []
        result = target(np.where(np.isin(labels, large), 0, labels) if len(large) else labels)
        for index in large:
            factor = math.ceil(math.sqrt(areas[index] / LARGEST))
            window = tuple(
                _blocks_around(side, factor, length)
                for side, length in zip(boxes[index - 1], labels.shape, strict=True)
            )
            inside = labels[window] == index
            full = np.pad(inside, [(0, -length % factor) for length in inside.shape])
            height, width = (length // factor for length in full.shape)
            blocks = full.reshape(height, factor, width, factor).mean((1, 3)) >= 0.5
            coarse = target(blocks.astype(np.int32))
            fine = resize(coarse, full.shape, order=1, mode="edge", anti_aliasing=False)
            fine = fine[: len(inside), : inside.shape[1]]
            result[window][inside] = np.maximum(fine[inside], coarse[coarse > 0].min(initial=1))
        return result

    return compute


def _blocks_around(side: slice, factor: int, length: int) -> slice:
    """Returns a side of a window: the blocks of `factor` pixels that a box touches, and one more around them.

    They are blocks of the grid of the full image, so that the window has its values.
    """
    return slice(
        max(side.start // factor - 1, 0) * factor, min((-(-side.stop // factor) + 1) * factor, length)
    )


@coarse_if_large
def instance_poisson(labels: np.ndarray) -> np.ndarray:
    """Returns the solution of Poisson's equation in each instance, 1 at its maximum.

    It solves `laplace(u) = -1` inside the instance with `u = 0` outside, and is the mean time in which a
    random walk from the pixel leaves the instance. It is smoother than the distance, and has fewer maxima.

    Args:
      labels: [H, W] int32, 0 is background, gaps allowed.

    Returns:
      [H, W] float32 in [0, 1], 0 in the background.

    References:
      Gorelick et al., Shape representation and classification using the Poisson equation (2006).
    """
    solution = _solve(labels, np.ones(np.count_nonzero(labels)))
    peak = ndimage.maximum(solution, labels, np.arange(labels.max(initial=0) + 1))
    return np.where(labels > 0, solution / np.maximum(peak, 1e-30)[labels], 0).astype(np.float32)


@coarse_if_large
def instance_diffusion(labels: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the heat that diffuses from the centre of each instance.

    Heat enters at one pixel, the one nearest to the median of the pixels of the instance, and leaves where
    the instance ends. Its gradient leads from every pixel to that centre, also around a bend. The logarithm
    is shifted so that the coldest pixel of an instance has 1. Of an instance in several pieces, whose pixels
    touch by no edge, every piece has a centre of its own.

    Args:
      labels: [H, W] int32, 0 is background, gaps allowed.

    Returns:
      [H, W] float32, at least 1 inside instances, 0 in the background.

    References:
      Stringer et al., Cellpose (https://doi.org/10.1038/s41592-020-01018-x), which simulates the diffusion;
      this is its steady state.
    """
    pieces = label(labels, connectivity=1)
    source = np.zeros(labels.shape)
    for index, box in enumerate(ndimage.find_objects(pieces), start=1):
        pixels = np.argwhere(pieces[box] == index)
        nearest = np.square(pixels - np.median(pixels, axis=0)).sum(1).argmin()
        source[box][tuple(pixels[nearest])] = 1
    inside = labels > 0
    # Along a line one pixel wide, heat falls by a factor of 4 per pixel; it may become 0 far from the centre.
    heat = np.maximum(_solve(pieces, source[inside]), np.finfo(float).tiny)
    coldest = ndimage.minimum(heat, pieces, np.arange(pieces.max() + 1))
    ratio = np.where(inside, heat / coldest[pieces], 1)
    return np.where(inside, 1 + np.log(ratio), 0).astype(np.float32)


def _solve(labels: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Solves `laplace(u) = -source` in all instances, with `u = 0` outside of each.

    Args:
      labels: [H, W] int32.
      source: [P] float, of the P pixels of instances in row-major order.

    Returns:
      [H, W] float64, 0 in the background.
    """
    inside = labels > 0
    result = np.zeros(labels.shape)
    if not len(source):
        return result
    # Instances do not depend on each other; the equations of a group need little memory.
    ids = labels[inside]
    areas = np.bincount(ids)
    group = ((np.cumsum(areas) - areas) // GROUP)[ids]
    order = np.argsort(group, kind="stable")
    number = np.full(labels.shape, -1, np.int32)
    number[inside] = np.argsort(order)
    # The number of the next pixel of the same instance, to the right and below; -1 if there is none.
    following = np.full((2, *labels.shape), -1, np.int32)
    for axis, first, second in ((0, np.s_[:, :-1], np.s_[:, 1:]), (1, np.s_[:-1], np.s_[1:])):
        same = inside[first] & (labels[first] == labels[second])
        following[axis][first][same] = number[second][same]
    following = following[:, inside][:, order]
    solution = np.empty(len(source))
    for start, stop in itertools.pairwise(np.searchsorted(group[order], np.arange(group.max() + 2))):
        if start < stop:
            solution[order[start:stop]] = _solve_group(
                following[:, start:stop] - start, source[order[start:stop]]
            )
    result[inside] = solution
    return result


def _solve_group(following: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Solves the equation of `_solve` for P pixels [P]; `following` [2, P] is negative where none follows."""
    one = np.concatenate([np.flatnonzero(row >= 0) for row in following])
    other = np.concatenate([row[row >= 0] for row in following])
    entries = np.concatenate([one, other]), np.concatenate([other, one])
    neighbours = sparse.coo_array((np.ones(len(entries[0])), entries), shape=(len(source),) * 2)
    # Every pixel has four neighbours; those outside of its instance have the value 0.
    laplacian = 4 * sparse.eye_array(len(source)) - neighbours
    return spsolve(laplacian.tocsc(), source, permc_spec="MMD_AT_PLUS_A")


# The optional maps of a batch, which are 0 outside instances.
TARGETS: dict[str, Target] = {
    "distance": instance_distance,
    "poisson": instance_poisson,
    "diffusion": instance_diffusion,
    "colours": instance_colours,
}
# How a warp resamples them: bilinear interpolation, the same between the pixels of one instance, or the
# nearest pixel.
RESAMPLING: dict[str, Literal["linear", "inside", "nearest"]] = {
    "distance": "linear",
    "poisson": "linear",
    # Its values at the boundary differ from one instance to the next: a mixture would reverse the flow there.
    "diffusion": "inside",
    "colours": "nearest",
}
