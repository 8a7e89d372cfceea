"""Unit flows to the centre of each instance, as in Cellpose (https://doi.org/10.1038/s41592-020-01018-x)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from cachetools import LRUCache, cached
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from segjax.data.targets import instance_diffusion
from segjax.losses.pixel import bounded
from segjax.representations.base import DecoderConfig
from segjax.typing import Array, Batch

# Networks predict the flow times this factor, so that its loss weighs as much as that of the classes.
FACTOR = 5.0
# The smallest number of points that are followed in one call, and a multiple of the sides of the image: both
# are rounded up, to compile rarely.
POINTS, SIDE = 2**13, 128
# Points that have come to the same place are merged after so many steps, and whenever the number of steps has
# doubled.
FIRST_STEPS = 32
# Points that moved by more than a quarter of so many steps, in the last so many, are still on their way, as
# long as they get farther away from where they were before: those that circle have no end.
LAST_STEPS = 50
# Memory for ends that are kept, in bytes: a fit of the decoder decodes each map with many settings.
KEPT = 2**27


class Flows:
    """Two channels, the rows and columns of a unit vector that leads to the centre; see `Representation`."""

    channels = 2
    vectors = True
    grid: Mapping[str, Sequence[float]] = MappingProxyType(
        {"smoothing": (0.5, 1.0, 1.5, 2.0, 3.0, 4.0), "density": (0.1, 0.3, 0.5, 1.0, 2.0, 4.0)}
    )
    targets = frozenset({"diffusion"})

    def loss(self, outputs: Array, batch: Batch) -> Array:
        """Returns half of the mean squared difference [B, H, W] from the flow times `FACTOR`."""
        flow = jax.vmap(flow_of)(batch["diffusion"], batch["labels"])
        return jnp.square(bounded(outputs) - FACTOR * flow).mean(-1) / 2

    def activate(self, outputs: Array) -> Array:
        """Returns the flow [B, H, W, 2]."""
        return outputs / FACTOR

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Returns the flow [H, W, 2] float32."""
        return np.asarray(jax.jit(flow_of)(instance_diffusion(labels), labels))

    def decode(self, foreground: np.ndarray, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
        """Follows the flow from each pixel and clusters the ends, [H, W] int32.

        Ends are counted per pixel. The smoothed counts have one peak per instance, whose basin collects its
        pixels. Pixels that end beside all peaks become background.
        """
        result = np.zeros(foreground.shape, np.int32)
        if not foreground.any():
            return result
        ends = ends_of(foreground, values, config.steps)
        counts = np.bincount(ends, minlength=foreground.size).reshape(foreground.shape).astype(float)
        density = ndimage.gaussian_filter(counts, config.smoothing, mode="constant")
        peaks = label(local_maxima(density) & (density > config.density), connectivity=2)
        basins = watershed(-density, peaks, mask=density > 0)
        result[foreground] = basins.ravel()[ends]
        return result


def flow_of(diffusion: Array, labels: Array) -> jax.Array:
    """Returns the direction of steepest ascent inside each instance.

    Differences are central. At the border of an instance they are one-sided, so that other instances and the
    background have no effect.

    Args:
      diffusion: [H, W] float32, see `instance_diffusion`.
      labels: [H, W] int, 0 is background.

    Returns:
      [H, W, 2] float32, rows and columns of unit vectors; 0 in the background and where it is flat.
    """
    values, labels = jnp.asarray(diffusion), jnp.asarray(labels)
    slopes = []
    for axis in (0, 1):
        slope, count = jnp.zeros_like(values), jnp.zeros_like(values)
        for step in (1, -1):
            same = jnp.roll(labels, -step, axis) == labels
            edge = jnp.arange(labels.shape[axis]) == (labels.shape[axis] - 1 if step == 1 else 0)
            same &= ~jnp.expand_dims(edge, 1 - axis)
            slope += jnp.where(same, step * (jnp.roll(values, -step, axis) - values), 0)
            count += same
        slopes.append(slope / jnp.maximum(count, 1))
    gradient = jnp.where((labels > 0)[..., None], jnp.stack(slopes, -1), 0)
    length = jnp.sqrt(jnp.square(gradient).sum(-1, keepdims=True))
    return jnp.where(length > 1e-6, gradient / jnp.maximum(length, 1e-6), 0)


def _key(foreground: np.ndarray, values: np.ndarray, steps: int) -> tuple[object, ...]:
    digest = hashlib.blake2b(np.packbits(foreground).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest(), values.shape, str(values.dtype), steps


@cached(LRUCache(KEPT, getsizeof=lambda ends: ends.nbytes), key=_key, lock=threading.Lock())
def ends_of(foreground: np.ndarray, values: np.ndarray, steps: int) -> np.ndarray:
    """Follows the flow from each pixel of a foreground; the results for the last maps are kept.

    Args:
      foreground: [H, W] bool.
      values: [H, W, 2] float, the flow.
      steps: minimum number of steps, see `follow_to_end`.

    Returns:
      [P] int32, the index in the flattened image of the pixel where each pixel of the foreground ends.
      The array is read-only.
    """
    flow = np.where(foreground[..., None], values, 0).astype(np.float32)
    rows, columns = np.rint(follow_to_end(flow, np.argwhere(foreground), steps=steps)).astype(np.int32).T
    ends: np.ndarray = rows * foreground.shape[1] + columns
    ends.flags.writeable = False
    return ends


def follow_to_end(flow: np.ndarray, points: np.ndarray, *, steps: int) -> np.ndarray:
    """Does what `follow_merged` does; points that are still on their way, as in a large cell, go on.

    Args:
      flow: [H, W, 2] float32.
      points: [P, 2], rows and columns.
      steps: minimum number of steps. The maximum is four times the height and width of the image together.

    Returns:
      [P, 2] float32, the ends.
    """
    count = min(steps, LAST_STEPS)
    points, index = _merged(follow_merged(flow, points, steps=steps - count))
    on_the_way, limit = np.arange(len(points)), max(4 * sum(flow.shape[:2]), steps)
    start, reached = points.copy(), np.zeros(len(points))
    for _ in range(steps - count, limit, max(count, 1)):
        moved = follow(flow, points[on_the_way], steps=count)
        step, total = (np.linalg.norm(moved - old[on_the_way], axis=1) for old in (points, start))
        goes_on = (step > count / 4) & (total > reached[on_the_way])
        points[on_the_way], reached[on_the_way] = moved, total
        on_the_way = on_the_way[goes_on]
        if not len(on_the_way):
            break
    return points[index]


def follow_merged(flow: np.ndarray, points: np.ndarray, *, steps: int) -> np.ndarray:
    """Does what `follow` does, with less work: points that have come to the same place go on as one.

    The ends are the same, bit by bit. The outputs of a network for pixels of nuclei need half of the steps.

    Args:
      flow: [H, W, 2] float32.
      points: [P, 2], rows and columns.
      steps: number of steps.

    Returns:
      [P, 2] float32, the ends.
    """
    points, index, done = np.asarray(points, np.float32), np.arange(len(points)), 0
    while done < steps:
        count = min(max(done, FIRST_STEPS), steps - done)
        points, done = follow(flow, points, steps=count), done + count
        points, merged = _merged(points)
        index = merged[index]
    return points[index]


def _merged(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns different points [Q, 2] float32, and the index of each of the given points among them."""
    # The two numbers of a point as one, which is sorted faster.
    places, index = np.unique(np.ascontiguousarray(points).view(np.int64), return_inverse=True)
    return places.view(np.float32).reshape(-1, 2), index.ravel()


def follow(flow: np.ndarray, points: np.ndarray, *, steps: int) -> np.ndarray:
    """Moves points along a flow by Euler steps of one pixel.

    Args:
      flow: [H, W, 2] float32, rows and columns; interpolated bilinearly.
      points: [P, 2], rows and columns.
      steps: number of steps.

    Returns:
      [P, 2] float32, the ends, inside the image.
    """
    height, width = flow.shape[:2]
    padded_flow = np.pad(flow, ((0, -height % SIDE), (0, -width % SIDE), (0, 0)))
    padded = np.pad(np.asarray(points, np.float32), ((0, _rounded(len(points)) - len(points)), (0, 0)))
    last = np.array([[height - 1, width - 1]], np.float32)
    return np.asarray(_follow(padded_flow, padded, last, steps))[: len(points)]


def _rounded(count: int) -> int:
    """Returns the number of points that is computed: one of four between a power of 2 and the next."""
    unit = 2 ** max(count.bit_length() - 3, 0)
    return max(-(-count // unit) * unit, POINTS)


@jax.jit
def _follow(flow: Array, points: Array, last: Array, steps: Array | int) -> Array:
    def move(_: Array, position: Array) -> Array:
        low = jnp.clip(jnp.floor(position), 0, jnp.maximum(last - 1, 0))
        weight = position - low
        row, column = low.astype(jnp.int32).T
        below = jnp.minimum(row + 1, flow.shape[0] - 1)
        right = jnp.minimum(column + 1, flow.shape[1] - 1)
        down, along = weight[:, :1], weight[:, 1:]
        upper = (1 - along) * flow[row, column] + along * flow[row, right]
        lower = (1 - along) * flow[below, column] + along * flow[below, right]
        return jnp.clip(position + (1 - down) * upper + down * lower, 0, last)

    return jax.lax.fori_loop(0, steps, move, points)
