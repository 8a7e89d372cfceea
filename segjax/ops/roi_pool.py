"""RoIPool: max pooling of a feature map over the bins of each box, as in Fast R-CNN."""

from functools import partial

import jax
import jax.numpy as jnp

from segjax.typing import Array

# RoIs pooled per batch.
CHUNK = 4


def roi_pool(features: Array, boxes: Array, *, bins: int, scale: float = 1.0) -> jax.Array:
    """Pools boxes from one feature map.

    Corners are rounded to feature map pixels, both inclusive. Neighbouring bins overlap by a pixel where the
    side of a box is not a multiple of `bins`.

    Args:
      features: [H, W, C] float.
      boxes: [T, 4] float, pixels of the image. They get no gradient.
      bins: height and width of the result.
      scale: of the feature map, 1/16 for a stride of 16.

    Returns:
      [T, bins, bins, C] float; 0 in bins outside the map. The gradient goes to the first maximum in
      row-major order.

    References:
      Girshick, Fast R-CNN (https://arxiv.org/abs/1504.08083); torchvision.ops.roi_pool.
    """
    height, width, _ = features.shape
    boxes = jax.lax.stop_gradient(boxes) * scale
    # Rounds halves away from zero, as C does; NumPy rounds them to even.
    corners = (jnp.sign(boxes) * jnp.floor(jnp.abs(boxes) + 0.5)).astype(jnp.int32)
    rows = _members(corners[:, 1], corners[:, 3], bins, height)
    columns = _members(corners[:, 0], corners[:, 2], bins, width)
    return _maxima(features, rows, columns)


def _members(first: Array, last: Array, bins: int, size: int) -> jax.Array:
    """Returns which positions of an axis lie in which bin: [T, bins, size] bool."""
    length = jnp.maximum(last - first + 1, 1)[:, None]
    index = jnp.arange(bins)[None]
    # Integer arithmetic: with floats the last bin of a box 57 pixels long ends at 58.
    start = first[:, None] + index * length // bins
    stop = first[:, None] + -(-(index + 1) * length // bins)
    positions = jnp.arange(size)[None, None]
    return (positions >= start[..., None]) & (positions < stop[..., None])


def _search(features: Array, rows: Array, columns: Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of each bin, [T, bins, bins, C], and its pixel as row * W + column, -1 if there is none."""
    height, width, _ = features.shape
    nowhere = height * width
    positions = jnp.arange(nowhere, dtype=jnp.int32).reshape(height, width)

    def search(roi: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        down, along = roi
        # Rows first: [bins, H, W, C] is never stored, it is reduced as it is made.
        stripes = jnp.where(down[:, :, None, None], features[None], -jnp.inf)
        highest = jnp.max(stripes, axis=1)  # [bins, W, C]
        row = jnp.argmax(stripes, axis=1).astype(jnp.int32)
        place = row * width + positions[0][None, :, None]
        cells = jnp.where(along[None, :, :, None], highest[:, None], -jnp.inf)  # [bins, bins, W, C]
        peak = jnp.max(cells, axis=2)
        first = jnp.where(cells == peak[:, :, None], place[:, None], nowhere)
        at = jnp.min(first, axis=2)
        empty = jnp.isneginf(peak)
        return jnp.where(empty, 0, peak), jnp.where(empty, -1, at)

    return jax.lax.map(search, (rows, columns), batch_size=CHUNK)


@jax.custom_vjp
def _maxima(features: Array, rows: Array, columns: Array) -> jax.Array:
    return _search(features, rows, columns)[0]


def _forward(
    features: Array, rows: Array, columns: Array
) -> tuple[jax.Array, tuple[jax.Array, Array, Array]]:
    pooled, at = _search(features, rows, columns)
    return pooled, (at, rows, columns)


def _by_scatter(at: Array, gradient: Array, size: int) -> jax.Array:
    """Adds [N, C] to the pixels [N, C] of a map of `size` pixels: [size, C]; -1 is no pixel."""
    channels = jnp.arange(at.shape[1])[None]
    nothing = jnp.zeros((size, at.shape[1]), gradient.dtype)
    return nothing.at[jnp.where(at < 0, size, at), channels].add(gradient, mode="drop")


def _by_comparison(at: Array, gradient: Array, size: int) -> jax.Array:
    """The same where atomic additions collide: a sum that is fused with the comparison."""
    pixels = jnp.arange(size, dtype=jnp.int32)
    return jnp.sum(jnp.where(at[None] == pixels[:, None, None], gradient[None], 0), axis=1)


def _backward(residuals: tuple[jax.Array, Array, Array], gradient: jax.Array) -> tuple[jax.Array | None, ...]:
    """Adds each bin's gradient to the pixel that it came from."""
    at, rows, columns = residuals
    height, width, channels = rows.shape[-1], columns.shape[-1], gradient.shape[-1]
    to_features = jax.lax.platform_dependent(
        at.reshape(-1, channels),
        gradient.reshape(-1, channels),
        cpu=partial(_by_scatter, size=height * width),
        default=partial(_by_comparison, size=height * width),
    )
    return to_features.reshape(height, width, channels), None, None


_maxima.defvjp(_forward, _backward)
