"""Axis-aligned boxes: `(x0, y0, x1, y1)` in pixels, `x1` and `y1` exclusive."""

import math

import jax
import jax.numpy as jnp

from segjax.typing import Array

# Upper limit of width and height deltas, so that exp does not overflow for an untrained network. 1000 / 16
# scales a 16-pixel anchor to a 1000-pixel image.
MAX_LOG_SIZE = math.log(1000 / 16)


def area(boxes: Array) -> jax.Array:
    """Returns the areas of boxes; 0 for empty and inverted boxes.

    Args:
      boxes: [..., 4] float, pixels.

    Returns:
      [...] float, square pixels.
    """
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(first: Array, second: Array) -> jax.Array:
    """Returns the intersection over union of every pair of boxes of two sets.

    Args:
      first: [N, 4] float, pixels.
      second: [M, 4] float, pixels.

    Returns:
      [N, M] float in [0, 1]; 0 where both boxes are empty.
    """
    intersection = pairwise_intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - intersection
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0)


def pairwise_intersection(first: Array, second: Array) -> jax.Array:
    """Returns the intersection areas [N, M] of boxes [N, 4] and [M, 4], square pixels."""
    # One axis at a time: XLA generates slow code for pairs of coordinates.
    sides = [
        jnp.minimum(first[:, None, axis + 2], second[None, :, axis + 2])
        - jnp.maximum(first[:, None, axis], second[None, :, axis])
        for axis in (0, 1)
    ]
    return jnp.maximum(sides[0], 0) * jnp.maximum(sides[1], 0)


def clip(boxes: Array, size: Array | tuple[float, float]) -> jax.Array:
    """Clips boxes to the image.

    Args:
      boxes: [..., 4] float, pixels.
      size: `(height, width)` of the image; it may be traced.

    Returns:
      [..., 4] float. A box entirely outside the image becomes empty.
    """
    size = jnp.asarray(size, jnp.float32)
    limits = jnp.stack([size[1], size[0], size[1], size[0]])
    return jnp.clip(boxes, 0, jnp.broadcast_to(limits, jnp.shape(boxes)))


def has_min_side(boxes: Array, side: float) -> jax.Array:
    """Returns [...] bool: boxes [..., 4] at least `side` pixels wide and high; False for non-finite sides."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return jnp.all((sides >= side) & jnp.isfinite(sides), axis=-1)


def encode(boxes: Array, anchors: Array, *, weights: tuple[float, float, float, float]) -> jax.Array:
    """Encodes boxes relative to anchors, as regression targets.

        (wx (x - xa) / wa, wy (y - ya) / ha, ww log(w / wa), wh log(h / ha)), where x and y are centres

    Args:
      boxes: [..., 4] float, pixels.
      anchors: [..., 4] float, pixels.
      weights: `(wx, wy, ww, wh)`, the factors of the deltas.

    Returns:
      [..., 4] float. Sides of empty boxes and anchors are clamped to 1/1000 pixel to keep the result
      finite; the caller must mask them out.

    References:
      Girshick et al., R-CNN, appendix C (https://arxiv.org/abs/1311.2524);
      torchvision.models.detection._utils.BoxCoder.
    """
    centres, sides = _centre_form(boxes)
    anchor_centres, anchor_sides = _centre_form(anchors)
    anchor_sides = jnp.maximum(anchor_sides, 1e-3)
    shifts = (centres - anchor_centres) / anchor_sides
    scales = jnp.log(jnp.maximum(sides, 1e-3) / anchor_sides)
    deltas = jnp.concatenate([shifts, scales], axis=-1)
    return deltas * jnp.broadcast_to(jnp.array(weights, jnp.float32), deltas.shape)


def decode(deltas: Array, anchors: Array, *, weights: tuple[float, float, float, float]) -> jax.Array:
    """Decodes deltas to boxes, the inverse of `encode`.

    Args:
      deltas: [..., 4] float; those of width and height are clipped at `MAX_LOG_SIZE`.
      anchors: [..., 4] float, pixels.
      weights: as in `encode`.

    Returns:
      [..., 4] float, pixels, not clipped to any image.
    """
    deltas = deltas / jnp.broadcast_to(jnp.array(weights, jnp.float32), deltas.shape)
    centres, sides = _centre_form(anchors)
    centres = centres + deltas[..., :2] * sides
    sides = sides * jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_SIZE))
    return jnp.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)


def boxes_from_labels(labels: Array, *, capacity: int) -> tuple[jax.Array, jax.Array]:
    """Returns the bounding boxes of the instances of a label map; a disconnected instance has one box.

    Args:
      labels: [H, W] int, 0 is background; ids above `capacity` are ignored.
      capacity: N, the maximum number of instances.

    Returns:
      Boxes [N, 4] float32 of ids 1..N, pixels, zero for absent ids; and valid [N] bool.
    """
    height, width = labels.shape
    rows = jnp.broadcast_to(jnp.arange(height)[:, None], labels.shape).ravel()
    columns = jnp.broadcast_to(jnp.arange(width)[None, :], labels.shape).ravel()
    # Minima of integers do not depend on the order, and hardware has atomic operations for them.
    low = jnp.stack([columns, rows, -1 - columns, -1 - rows], axis=-1)
    ids = jnp.where(labels > capacity, 0, labels).ravel()
    corners = jax.ops.segment_min(low, ids, num_segments=capacity + 1)[1:]
    valid = corners[:, 0] < width
    signs = jnp.array([[1, 1, -1, -1]])
    return jnp.where(valid[:, None], corners * signs, 0).astype(jnp.float32), valid


def _centre_form(boxes: Array) -> tuple[jax.Array, jax.Array]:
    boxes = jnp.asarray(boxes)
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides
