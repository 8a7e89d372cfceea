"""Instance masks inside boxes: crops from a label map, pasting into the image, and IoU."""

import jax
import jax.numpy as jnp

from segjax.ops.roi_align import CHUNK, EXACT, adaptive_weights, roi_to_feature_coords
from segjax.typing import Array


def crop_masks(labels: Array, ids: Array, boxes: Array, *, bins: int, aligned: bool = False) -> jax.Array:
    """Returns mask-head targets: the fraction of each bin that the instance covers.

    Equivalent to RoIAlign with scale 1 of each instance's binary mask, without storing all masks: `labels ==
    id` is computed on the fly.

    Args:
      labels: [H, W] int, 0 is background.
      ids: [T] int, the instance of each box.
      boxes: [T, 4] float, pixels.
      bins: height and width of the result.
      aligned: as in the RoIAlign that feeds the mask head. If False, masks are shifted by half a pixel.

    Returns:
      [T, bins, bins] float32 in [0, 1].

    References:
      torchvision.models.detection.roi_heads.project_masks_on_boxes.
    """
    height, width = labels.shape
    start, sides = roi_to_feature_coords(boxes, 1.0, aligned)
    rows = adaptive_weights(start[:, 1], sides[:, 1], size=height, bins=bins)
    columns = adaptive_weights(start[:, 0], sides[:, 0], size=width, bins=bins)

    def crop(roi: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        index, row_weights, column_weights = roi
        mask = (labels == index).astype(jnp.float32)
        return jnp.einsum("yh,hw,xw->yx", row_weights, mask, column_weights, precision=EXACT)

    return jax.lax.map(crop, (ids, rows, columns), batch_size=CHUNK)


def paste_masks(masks: Array, boxes: Array, *, shape: tuple[int, int], stride: int = 1) -> jax.Array:
    """Pastes masks into the image, sampled at every `stride`-th pixel.

    Args:
      masks: [D, M, M] float, the masks inside their boxes.
      boxes: [D, 4] float, pixels.
      shape: `(height, width)` of the image.
      stride: vertical and horizontal sampling stride in pixels, starting at half a stride.

    Returns:
      [D, height // stride, width // stride] float, 0 outside of the boxes, interpolated inside.
    """
    size = masks.shape[-1]

    def weights(first: Array, last: Array, length: int) -> jax.Array:
        """Returns interpolation weights [D, length // stride, M]."""
        pixels = jnp.arange(length // stride) * stride + stride / 2
        sides = jnp.maximum(last - first, 1e-3)[:, None]
        position = (pixels[None] - first[:, None]) / sides * size - 0.5
        inside = (position >= -0.5) & (position <= size - 0.5)
        position = jnp.clip(position, 0, size - 1)
        hat = jnp.maximum(1 - jnp.abs(position[..., None] - jnp.arange(size)[None, None]), 0)
        return jnp.where(inside[..., None], hat, 0)

    rows = weights(boxes[:, 1], boxes[:, 3], shape[0])
    columns = weights(boxes[:, 0], boxes[:, 2], shape[1])
    return jnp.einsum("dhy,dyx,dwx->dhw", rows, masks, columns)


def pairwise_mask_iou(
    masks: Array, boxes: Array, *, shape: tuple[int, int], stride: int = 2, threshold: float = 0.5
) -> jax.Array:
    """Returns the intersection over union of every pair of masks, computed on every `stride`-th pixel.

    Args:
      masks: [D, M, M] float, probabilities.
      boxes: [D, 4] float, pixels.
      shape: `(height, width)` of the image.
      stride: see `paste_masks`; memory and time fall with its square.
      threshold: minimum probability of the pixels that are inside.

    Returns:
      [D, D] float in [0, 1]; 0 where both masks are empty.
    """
    pasted = paste_masks(masks, boxes, shape=shape, stride=stride)
    # Outside of the boxes, it is 0.
    inside = (pasted >= threshold) & (pasted > 0)
    flat = inside.astype(jnp.float32).reshape(len(masks), -1)
    intersection = jnp.einsum("ip,jp->ij", flat, flat)
    areas = jnp.sum(flat, axis=1)
    union = areas[:, None] + areas[None, :] - intersection
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1), 0)
