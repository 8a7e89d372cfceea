"""RoIAlign: bilinear samples of a feature map inside each box, averaged over a grid of bins.

Bilinear weights are separable, so a pooled RoI is two small matrix products:

    pooled[y, x] = sum_h sum_w rows[y, h] * columns[x, w] * features[h, w]

`rows` and `columns` have at most `2 * sampling_ratio` nonzero entries per row, the taps. The forward pass
gathers only the pixels of the taps. It reads them from one table with the pixels of all pyramid levels, where
the level of a RoI is only an offset. The backward pass scatters on CPU. On other devices, colliding atomic
additions would be slow, so it uses the transposed matrix products.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops import boxes as box_ops
from segjax.typing import Array

EXACT = jax.lax.Precision.HIGHEST
# RoIs pooled per batch: larger batches are not faster and need more memory for their taps.
CHUNK = 32
# Pyramid level of a box of the canonical size, as in the paper on feature pyramids.
CANONICAL_LEVEL = 4


class Taps(NamedTuple):
    """Bilinear sampling positions and weights of each bin of each RoI along one axis.

    Attributes:
      indices: [T, bins, J] int32, row or column indices of a feature map.
      weight: [T, bins, J] float32, weight of each pixel in the mean of the bin.
    """

    indices: jax.Array
    weight: jax.Array


def roi_align(
    features: Array,
    boxes: Array,
    *,
    bins: int,
    scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> jax.Array:
    """Pools boxes from one feature map.

    Args:
      features: [H, W, C] float.
      boxes: [T, 4] float, pixels of the image. They get no gradient.
      bins: height and width of the result.
      scale: scale of the feature map, 1/16 for a stride of 16.
      sampling_ratio: samples along each side of a bin; 0 for as many as the side has pixels, rounded up.
      aligned: whether to use the correct half-pixel centres. If False, as for most published weights, boxes
        are shifted by half a feature map pixel, and are at least one such pixel wide and high.

    Returns:
      [T, bins, bins, C] float. Samples more than a pixel outside the map are 0, nearer ones are clamped.
      Boxes that are not finite are 0.

    References:
      He et al., Mask R-CNN (https://arxiv.org/abs/1703.06870); torchvision.ops.roi_align.
    """
    if sampling_ratio > 0:
        level = jnp.zeros(len(boxes), jnp.int32)
        return _align([features], boxes, level, (scale,), bins, sampling_ratio, aligned)
    start, length = roi_to_feature_coords(jax.lax.stop_gradient(boxes), scale, aligned)
    rows = adaptive_weights(start[:, 1], length[:, 1], size=features.shape[0], bins=bins)
    columns = adaptive_weights(start[:, 0], length[:, 0], size=features.shape[1], bins=bins)

    def pool(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.einsum("yh,xw,hwc->yxc", *weights, features, precision=EXACT)

    return jax.lax.map(pool, (rows, columns), batch_size=CHUNK)


def pyramid_roi_align(
    features: Sequence[Array],
    boxes: Array,
    *,
    bins: int,
    scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224.0,
) -> jax.Array:
    """Pools boxes from a feature pyramid, each from the level chosen by `pyramid_level`.

    Args:
      features: [H, W, C] float feature map of each level, fine to coarse.
      boxes: [T, 4] float, pixels of the image. They get no gradient.
      bins: height and width of the result.
      scales: scale of each level, powers of 1/2.
      sampling_ratio: samples along each side of a bin, at least 1.
      aligned: as in `roi_align`.
      canonical_size: see `pyramid_level`.

    Returns:
      [T, bins, bins, C] float.

    References:
      torchvision.ops.MultiScaleRoIAlign.
    """
    level = pyramid_level(boxes, scales=scales, canonical_size=canonical_size)
    return _align(list(features), boxes, level, tuple(scales), bins, sampling_ratio, aligned)


def pyramid_level(boxes: Array, *, scales: Sequence[float], canonical_size: float = 224.0) -> jax.Array:
    """Assigns each box to a pyramid level: larger boxes to coarser levels.

        floor(4 + log2(sqrt(area) / canonical_size)), clipped to the pyramid

    Args:
      boxes: [T, 4] float, pixels.
      scales: scale of each level, 2 ** -level in the equation.
      canonical_size: side in pixels of a box that belongs to level 4, of scale 1/16.

    Returns:
      [T] int32, 0 for the finest level.

    References:
      Lin et al., Feature Pyramid Networks (https://arxiv.org/abs/1612.03144), equation 1.
    """
    finest, coarsest = (round(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    side = jnp.sqrt(box_ops.area(boxes))
    # Torchvision's epsilon, for boxes on the boundary of two levels.
    level = jnp.floor(CANONICAL_LEVEL + jnp.log2(side / canonical_size) + 1e-6)
    level = jnp.where(side > 0, level, finest)
    return jnp.clip(level, finest, coarsest).astype(jnp.int32) - finest


def adaptive_weights(start: Array, length: Array, *, size: int, bins: int) -> jax.Array:
    """Returns the weights of every pixel along one axis; a bin has one sample per pixel, rounded up.

    Args:
      start: [T] float, start of each RoI, feature map pixels.
      length: [T] float, length of each RoI, feature map pixels.
      size: size of the map along the axis.
      bins: number of bins per RoI.

    Returns:
      [T, bins, size] float32, the bilinear weights of a bin's samples, averaged.
    """
    count = jnp.ceil(length / bins)
    positions = jnp.arange(size, dtype=jnp.float32)
    bin_length = (length / bins)[:, None]
    first = start[:, None] + bin_length * jnp.arange(bins)[None]

    def add(sample: jax.Array, total: jax.Array) -> jax.Array:
        position = first + bin_length * (sample + 0.5) / jnp.maximum(count, 1)[:, None]
        inside = (position >= -1) & (position <= size) & (sample < count)[:, None]
        position = jnp.clip(position, 0, size - 1)
        hat = jnp.maximum(1 - jnp.abs(position[..., None] - positions[None, None]), 0)
        return total + jnp.where(inside[..., None], hat, 0)

    # The trip count depends on the largest RoI, which works because nothing here is differentiated.
    total = jax.lax.fori_loop(
        0, jnp.max(count).astype(jnp.int32), add, jnp.zeros((len(start), bins, size), jnp.float32)
    )
    return total / jnp.maximum(count, 1)[:, None, None]


def roi_to_feature_coords(boxes: Array, scale: Array | float, aligned: bool) -> tuple[jax.Array, jax.Array]:
    """Returns top-left corners [T, 2] and sides [T, 2] as `(x, y)` in feature map pixels.

    A box that is not finite is moved to minus infinity, where all samples are 0.
    """
    scale = jnp.reshape(jnp.asarray(scale, jnp.float32), (-1, 1))
    scaled = jnp.asarray(boxes) * scale - (0.5 if aligned else 0.0)
    sides = scaled[:, 2:] - scaled[:, :2]
    finite = jnp.isfinite(scaled[:, :2] + sides).all(-1, keepdims=True)
    start, sides = jnp.where(finite, scaled[:, :2], -jnp.inf), jnp.where(finite, sides, 0)
    return start, sides if aligned else jnp.maximum(sides, 1)


def _bilinear_taps(start: Array, length: Array, size: Array, bins: int, sampling_ratio: int) -> Taps:
    """Returns the taps of RoIs [T] along one axis, in maps of `size` [T]."""
    offset = (jnp.arange(bins * sampling_ratio) + 0.5) / (bins * sampling_ratio)
    position = start[:, None] + length[:, None] * offset[None]
    last = (size - 1)[:, None]
    inside = (position >= -1) & (position <= size[:, None])
    position = jnp.clip(position, 0, last)
    low = jnp.floor(position).astype(jnp.int32)
    high = jnp.minimum(low + 1, last)
    fraction = position - low
    weight = jnp.stack([1 - fraction, fraction], axis=-1) * inside[..., None] / sampling_ratio
    shape = (len(start), bins, 2 * sampling_ratio)
    return Taps(jnp.stack([low, high], axis=-1).reshape(shape), weight.reshape(shape))


def _align(
    features: list[Array],
    boxes: Array,
    level: Array,
    scales: tuple[float, ...],
    bins: int,
    sampling_ratio: int,
    aligned: bool,
) -> jax.Array:
    boxes = jax.lax.stop_gradient(boxes)
    start, length = roi_to_feature_coords(boxes, jnp.array(scales, jnp.float32)[level], aligned)
    heights, widths = (jnp.array([f.shape[axis] for f in features], jnp.int32)[level] for axis in (0, 1))
    rows = _bilinear_taps(start[:, 1], length[:, 1], heights, bins, sampling_ratio)
    columns = _bilinear_taps(start[:, 0], length[:, 0], widths, bins, sampling_ratio)
    shapes = tuple((f.shape[0], f.shape[1]) for f in features)
    table = jnp.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    return _pool(shapes, table, level, rows, columns)


def _gather(
    shapes: tuple[tuple[int, int], ...], table: Array, level: Array, rows: Taps, columns: Taps
) -> jax.Array:
    """Pools RoIs from a table of the pixels of all levels, [sum of H W, C]."""
    sizes = [height * width for height, width in shapes]
    offsets = jnp.array([sum(sizes[:index]) for index in range(len(sizes))], jnp.int32)[level]
    widths = jnp.array([width for _, width in shapes], jnp.int32)[level]
    row_starts = rows.indices * widths[:, None, None] + offsets[:, None, None]

    def pool(roi: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        row_start, row_weight, column, column_weight = roi
        pixels = table[row_start[:, :, None, None] + column[None, None]]  # [bins, J, bins, J, C]
        row_means = jnp.einsum("yjxkc,xk->yjxc", pixels, column_weight.astype(table.dtype), precision=EXACT)
        return jnp.einsum("yjxc,yj->yxc", row_means, row_weight.astype(table.dtype), precision=EXACT)

    return jax.lax.map(pool, (row_starts, rows.weight, columns.indices, columns.weight), batch_size=CHUNK)


def _gather_transpose(
    shapes: tuple[tuple[int, int], ...], gradient: Array, level: Array, rows: Taps, columns: Taps
) -> jax.Array:
    """Computes the transpose of `_gather` by matrix products, [T, bins, bins, C] to [sum of H W, C]."""

    def matrix(taps: Taps, size: int, index: int) -> jax.Array:
        is_tap = taps.indices[..., None] == jnp.arange(size)[None, None, None]
        weight = jnp.where((level == index)[:, None, None], taps.weight, 0)
        return jnp.sum(jnp.where(is_tap, weight[..., None], 0), axis=-2).astype(gradient.dtype)

    parts = []
    for index, (height, width) in enumerate(shapes):
        row_matrix, column_matrix = matrix(rows, height, index), matrix(columns, width, index)
        stripes = jnp.einsum("tyh,tyxc->thxc", row_matrix, gradient)
        parts.append(jnp.einsum("thxc,txw->hwc", stripes, column_matrix).reshape(height * width, -1))
    return jnp.concatenate(parts)


_pool = jax.custom_vjp(_gather, nondiff_argnums=(0,))


def _pool_forward(
    shapes: tuple[tuple[int, int], ...], table: Array, level: Array, rows: Taps, columns: Taps
) -> tuple[jax.Array, tuple[Any, ...]]:
    # The backward pass needs only the number of channels and the dtype of the table: an empty slice has both.
    return _gather(shapes, table, level, rows, columns), (table[:0], level, rows, columns)


def _pool_backward(
    shapes: tuple[tuple[int, int], ...], residuals: tuple[Any, ...], gradient: Array
) -> tuple[Array | None, ...]:
    empty_table, level, rows, columns = residuals

    def by_scatter(gradient: Array, level: Array, rows: Taps, columns: Taps) -> jax.Array:
        table = jax.ShapeDtypeStruct((sum(h * w for h, w in shapes), empty_table.shape[1]), empty_table.dtype)
        transpose = jax.linear_transpose(lambda t: _gather(shapes, t, level, rows, columns), table)
        return transpose(gradient)[0]

    by_matrix_products = partial(_gather_transpose, shapes)
    table_gradient = jax.lax.platform_dependent(
        gradient, level, rows, columns, cpu=by_scatter, default=by_matrix_products
    )
    return table_gradient, None, None, None


_pool.defvjp(_pool_forward, _pool_backward)
