"""Geometric augmentation: flips, affine maps and elastic deformation, composed into one warp."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from segjax.data.augmentation import photometric
from segjax.data.targets import RESAMPLING, TARGETS
from segjax.errors import InputError
from segjax.ops.warp import sample, sample_inside
from segjax.typing import IGNORE, Array, Batch

# Keys of arrays of image size. Other keys of an example are passed through.
MAPS = ("image", "labels", "semantic", *TARGETS)

Strengths = Mapping[str, Any]
# `(random numbers, matrix [2, 2], strengths) -> matrix`, composed with the matrix of the operation.
Linear = Callable[[Mapping[str, Array], Array, Strengths], Array]


def warp(
    key: Array, example: Batch, names: Sequence[str], strengths: Strengths, *, size: int | None = None
) -> Batch:
    """Applies geometric operations in order with a single interpolation.

    Args:
      key: random key.
      example: a `Batch` without B, with square maps.
      names: operations, keys of `LINEAR` or "elastic".
      strengths: strength of each operation, by name.
      size: side of the patch cropped from the centre of the result; None does not crop.

    Returns:
      The warped example. The image is interpolated linearly, labels and semantic by nearest neighbour, and
      targets as in `RESAMPLING`. Beyond the border, the image is reflected, `semantic` is `IGNORE`, and
      labels and targets are 0.

    Raises:
      InputError: if the example has proposals and "elastic" is among the operations.
    """
    if "proposals" in example and "elastic" in names:
        raise InputError(
            "elastic bends proposals, which must stay boxes: set it to (0.0, 1.0), or remove it from policy",
            field="elastic",
        )
    source_size = len(example["labels"])
    size = source_size if size is None else size
    positions, matrix = _coordinates(key, names, strengths, size)
    positions += (source_size - size) // 2 + (size - 1) / 2
    arrays = cast(dict[str, Array], example)
    smooth, inside, nearest = (
        [name for name in TARGETS if name in example and RESAMPLING[name] == kind]
        for kind in ("linear", "inside", "nearest")
    )
    floats = [example["image"], *(arrays[name][..., None] for name in smooth)]
    image, *interpolated = jnp.split(
        sample(jnp.concatenate(floats, axis=-1), positions, order=1),
        example["image"].shape[-1] + np.arange(len(smooth)),
        axis=-1,
    )
    integers = jnp.stack([arrays[name] for name in ("labels", "semantic", *nearest)], axis=-1)
    integers = sample(integers, positions, order=0, fill=IGNORE)
    labels = jnp.maximum(integers[..., 0], 0)
    targets = {name: values[..., 0] for name, values in zip(smooth, interpolated, strict=True)}
    targets |= {name: integers[..., index] for index, name in enumerate(nearest, start=2)}
    targets |= {
        name: sample_inside(arrays[name], arrays["labels"], positions, integers[..., 0]) for name in inside
    }
    warped: Batch = {
        **moved_proposals(example, matrix, size),
        "image": image,
        "labels": labels,
        "semantic": integers[..., 1],
    }
    return cast(
        Batch, {**warped, **{name: jnp.where(labels > 0, values, 0) for name, values in targets.items()}}
    )


def centre(example: Batch, size: int) -> Batch:
    """Crops the centre of an example.

    Args:
      example: a `Batch` without B, with square maps.
      size: side of the patch.

    Returns:
      The cropped example.
    """
    start = (len(example["labels"]) - size) // 2
    window = slice(start, start + size)
    maps = {name: jnp.asarray(value) for name, value in example.items() if name in MAPS}
    cut = cast(Batch, {name: value[window, window] for name, value in maps.items()})
    return {**moved_proposals(example, jnp.eye(2), size), **cut}


def moved_proposals(example: Batch, to_source: Array, size: int) -> Batch:
    """Transforms the proposals of an example, if any, to their bounding boxes in a patch.

    Args:
      example: a `Batch` without B, before cropping.
      to_source: [2, 2] matrix from `(y, x)` in the patch to `(y, x)` in the example, both from the centre.
      size: side of the patch.

    Returns:
      The example with new proposals, clipped to the patch. Boxes with at most half of their area in the
      patch are invalid.
    """
    if "proposals" not in example:
        return example
    boxes = example["proposals"]
    overhang = (len(example["labels"]) - size) // 2
    # Corners as (y, x). Boxes are measured from pixel edges, so the centre of the patch is size / 2.
    corners = jnp.stack([boxes[:, jnp.array(pick)] for pick in ((1, 0), (1, 2), (3, 0), (3, 2))], axis=1)
    turned = _product(corners - overhang - size / 2, jnp.linalg.inv(to_source).T) + size / 2  # [P, 4, 2]
    low, high = turned.min(1)[:, ::-1], turned.max(1)[:, ::-1]
    area = jnp.prod(high - low, axis=-1)
    low, high = jnp.clip(low, 0, size), jnp.clip(high, 0, size)
    inside = jnp.prod(high - low, axis=-1)
    return {
        **example,
        "proposals": jnp.concatenate([low, high], axis=-1),
        "proposals_valid": example["proposals_valid"] & (inside > 0.5 * area),
    }


def _coordinates(
    key: Array, names: Sequence[str], strengths: Strengths, size: int
) -> tuple[jax.Array, Array]:
    """Returns source coordinates [2, size, size] from the centre, and the matrix of the linear part."""
    numbers = _numbers(key, names)
    from_centre = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    positions = jnp.stack(jnp.meshgrid(from_centre, from_centre, indexing="ij"))
    linear: Array = jnp.eye(2)
    pending: Array = linear
    # Coordinates map from result to source, so the operations apply in reverse order.
    for name in reversed(names):
        if name == "elastic":
            deviation, spacing = strengths["elastic"]
            field_key = jax.random.split(key)[1]
            field = photometric.smooth_field(field_key, (size, size), spacing=spacing, channels=2)
            positions = _through(pending, positions) + deviation * jnp.moveaxis(field, -1, 0)
            pending = jnp.eye(2)
        else:
            pending = LINEAR[name](numbers, pending, strengths)
            linear = LINEAR[name](numbers, linear, strengths)
    return _through(pending, positions), linear


def _product(one: Array, other: Array) -> jax.Array:
    """Returns the product of two matrices; the default on TPUs would round coordinates to eight bits."""
    return jnp.matmul(one, other, precision=jax.lax.Precision.HIGHEST)


def _through(matrix: Array, positions: Array) -> jax.Array:
    return jnp.einsum("ij,jhw->ihw", matrix, positions, precision=jax.lax.Precision.HIGHEST)


def _numbers(key: Array, names: Sequence[str]) -> dict[str, Array]:
    """Returns random numbers in [0, 1) for each operation, independent of the other operations."""
    mirrored, direction, angle, zoom = jnp.split(
        jax.random.uniform(jax.random.split(key)[0], (5,)), (2, 3, 4)
    )
    numbers: dict[str, Array] = {
        "flip": mirrored,
        "rot90": direction[0],
        "rotation": angle[0],
        "scale": zoom[0],
    }
    # `split` has already used 0 and 1.
    for index, name in enumerate(("shear", "stretch"), start=2):
        if name in names:
            numbers[name] = jax.random.uniform(jax.random.fold_in(key, index))
    return numbers


def _flip(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    del strengths
    return matrix * jnp.where(numbers["flip"] < 0.5, 1.0, -1.0)[:, None]


def _quarter_turns(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    """Uses exact integers, so that pixels map to pixels."""
    del strengths
    number = jnp.floor(4 * numbers["rot90"]).astype(jnp.int32)
    return _turned(jnp.array([1.0, 0, -1, 0])[number], jnp.array([0.0, 1, 0, -1])[number], matrix)


def _rotation(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    most = strengths["rotation"]
    radians = jnp.deg2rad(photometric.between((-most, most), numbers["rotation"]))
    return _turned(jnp.cos(radians), jnp.sin(radians), matrix)


def _scale(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    return matrix / photometric.between(strengths["scale"], numbers["scale"], logarithmic=True)


def _shear(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    most = strengths["shear"]
    slope = jnp.tan(jnp.deg2rad(photometric.between((-most, most), numbers["shear"])))
    return _product(jnp.eye(2) + slope * jnp.array([[0.0, 0], [1, 0]]), matrix)


def _stretch(numbers: Mapping[str, Array], matrix: Array, strengths: Strengths) -> Array:
    """Scales rows by the root of the ratio and columns by its inverse, which preserves areas."""
    root = jnp.sqrt(photometric.between(strengths["stretch"], numbers["stretch"], logarithmic=True))
    return matrix / jnp.stack([root, 1 / root])[:, None]


LINEAR: dict[str, Linear] = {
    "flip": _flip,
    "rot90": _quarter_turns,
    "rotation": _rotation,
    "scale": _scale,
    "shear": _shear,
    "stretch": _stretch,
}


def _turned(cosine: Array, sine: Array, matrix: Array) -> jax.Array:
    """Returns a matrix [2, 2] after a counter-clockwise rotation of `(y, x)`, as in np.rot90."""
    return _product(jnp.array([[cosine, sine], [-sine, cosine]]), matrix)
