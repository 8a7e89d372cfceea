"""Cutout augmentation: erases random rectangles."""

from typing import cast

import jax
import jax.numpy as jnp

from segjax.data.augmentation.photometric import between
from segjax.data.targets import TARGETS
from segjax.typing import IGNORE, Array, Batch


def cut_out(key: Array, example: Batch, *, fraction: float, count: int) -> Batch:
    """Replaces random rectangles by the mean background intensity.

    Training ignores erased pixels: their `semantic` is `IGNORE`, their `labels` and scalar targets are 0. The
    visible part of a partly erased instance keeps its id.

    Args:
      key: random key.
      example: a `Batch` without B; other arrays than maps are passed through.
      fraction: maximum side of a rectangle, relative to the side of the image; sides are uniform.
      count: number of rectangles.

    Returns:
      The example with erased rectangles.

    References:
      DeVries and Taylor, Improved regularization of convolutional neural networks with cutout
      (https://arxiv.org/abs/1708.04552).
    """
    labels, image = example["labels"], example["image"]
    numbers = jax.random.uniform(key, (4, count))
    shape = jnp.array(labels.shape, jnp.float32)
    centres = numbers[:2] * shape[:, None]  # [2, M]
    halves = between((0.0, fraction), numbers[2:]) * shape[:, None] / 2
    rows, columns = (  # [M, H] and [M, W]
        jnp.abs(jnp.arange(side)[None] + 0.5 - centre[:, None]) < half[:, None]
        for side, centre, half in zip(labels.shape, centres, halves, strict=True)
    )
    hole = jnp.any(rows[:, :, None] & columns[:, None, :], axis=0)
    erased: Batch = {
        **example,
        "image": jnp.where(hole[..., None], _background(image, labels), image),
        "labels": jnp.where(hole, 0, labels),
        "semantic": jnp.where(hole, IGNORE, example["semantic"]),
    }
    targets = {
        name: jnp.where(hole, 0, cast(dict[str, Array], example)[name])
        for name in TARGETS.keys() & example.keys()
    }
    return cast(Batch, {**erased, **targets})


def _background(image: Array, labels: Array) -> jax.Array:
    """Returns the mean [1, 1, C] of the background; of all pixels if there is no background."""
    empty = (labels == 0) | jnp.all(labels > 0)
    return jnp.mean(image, axis=(0, 1), where=empty[..., None], keepdims=True)
