"""RoIPool: max pooling of a feature map over the bins of each box, as in Fast R-CNN."""

from functools import partial

import jax
import jax.numpy as jnp

from segjax.typing import Array

# RoIs pooled per batch.
CHUNK = 4
# Corners are clipped to it, so that integers do not overflow; outside any feature map.
FARTHEST = 2.0**20


def roi_pool(features: Array, boxes: Array, *, bins: int, scale: float = 1.0) -> jax.Array:
    """Pools boxes from one feature map.

    Corners are rounded to feature map pixels, both inclusive. Neighbouring bins overlap by a pixel where the
    side of a box is not a multiple of `bins`.

    Args:
      features: [H, W, C] float.
      boxes: [T, 4] float, pixels of the image. They get no gradient.
      bins: height and width of the result.
      scale: scale of the feature map, 1/16 for a stride of 16.

    Returns:
      [T, bins, bins, C] float; 0 in bins outside the map, and for boxes that are not finite. The
      gradient goes to the first maximum in row-major order.

    References:
      Girshick, Fast R-CNN (https://arxiv.org/abs/1504.08083); torchvision.ops.roi_pool.
    """
    height, width, _ = features.shape
    boxes = jax.lax.stop_gradient(boxes) * scale
    boxes = jnp.where(jnp.isfinite(boxes).all(-1, keepdims=True), boxes, -FARTHEST)
    boxes = jnp.clip(boxes, -FARTHEST, FARTHEST)
    # Halves are rounded away from zero, as in C; NumPy rounds them to even.
    corners = (jnp.sign(boxes) * jnp.floor(jnp.abs(boxes) + 0.5)).astype(jnp.int32)
    rows = _bin_members(corners[:, 1], corners[:, 3], bins, height)
    columns = _bin_members(corners[:, 0], corners[:, 2], bins, width)
    return _maxima(features, rows, columns)


def _bin_members(first: Array, last: Array, bins: int, size: int) -> jax.Array:
    """Returns [T, bins, size] bool, True where a pixel of the axis is in the bin."""
    length = jnp.maximum(last - first + 1, 1)[:, None]
    index = jnp.arange(bins)[None]
    # Integer arithmetic, because with floats the last bin of a box of 57 pixels ends at 58.
    start = first[:, None] + index * length // bins
    stop = first[:, None] + -(-(index + 1) * length // bins)
    positions = jnp.arange(size)[None, None]
    return (positions >= start[..., None]) & (positions < stop[..., None])


def _max_and_argmax(features: Array, rows: Array, columns: Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each bin [T, bins, bins, C], and its pixel, row * W + column; -1 if empty."""
    height, width, _ = features.shape
    num_pixels = height * width
    positions = jnp.arange(num_pixels, dtype=jnp.int32).reshape(height, width)

    def pool(roi: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        in_row, in_column = roi
        # Rows first. XLA fuses the reduction: [bins, H, W, C] is never stored.
        stripes = jnp.where(in_row[:, :, None, None], features[None], -jnp.inf)
        highest = jnp.max(stripes, axis=1)  # [bins, W, C]
        row = jnp.argmax(stripes, axis=1).astype(jnp.int32)
        pixel = row * width + positions[0][None, :, None]
        cells = jnp.where(in_column[None, :, :, None], highest[:, None], -jnp.inf)  # [bins, bins, W, C]
        peak = jnp.max(cells, axis=2)
        first = jnp.where(cells == peak[:, :, None], pixel[:, None], num_pixels)
        argmax = jnp.min(first, axis=2)
        empty = jnp.isneginf(peak)
        return jnp.where(empty, 0, peak), jnp.where(empty, -1, argmax)

    return jax.lax.map(pool, (rows, columns), batch_size=CHUNK)


@jax.custom_vjp
def _maxima(features: Array, rows: Array, columns: Array) -> jax.Array:
    return _max_and_argmax(features, rows, columns)[0]


def _forward(
    features: Array, rows: Array, columns: Array
) -> tuple[jax.Array, tuple[jax.Array, Array, Array]]:
    pooled, argmax = _max_and_argmax(features, rows, columns)
    return pooled, (argmax, rows, columns)


def _scatter_add(argmax: Array, gradient: Array, size: int) -> jax.Array:
    """Returns [size, C]: the gradients [N, C] added at their pixels `argmax` [N, C]; -1 for no pixel."""
    channels = jnp.arange(argmax.shape[1])[None]
    zeros = jnp.zeros((size, argmax.shape[1]), gradient.dtype)
    return zeros.at[jnp.where(argmax < 0, size, argmax), channels].add(gradient, mode="drop")


def _compare_and_sum(argmax: Array, gradient: Array, size: int) -> jax.Array:
    """Like `_scatter_add`, as a sum that XLA fuses with the comparison, for devices where atomics collide."""
    pixels = jnp.arange(size, dtype=jnp.int32)
    return jnp.sum(jnp.where(argmax[None] == pixels[:, None, None], gradient[None], 0), axis=1)


def _backward(residuals: tuple[jax.Array, Array, Array], gradient: jax.Array) -> tuple[jax.Array | None, ...]:
    """Adds the gradient of each bin to the pixel of its maximum."""
    argmax, rows, columns = residuals
    height, width, channels = rows.shape[-1], columns.shape[-1], gradient.shape[-1]
    feature_gradient = jax.lax.platform_dependent(
        argmax.reshape(-1, channels),
        gradient.reshape(-1, channels),
        cpu=partial(_scatter_add, size=height * width),
        default=partial(_compare_and_sum, size=height * width),
    )
    return feature_gradient.reshape(height, width, channels), None, None


_maxima.defvjp(_forward, _backward)
