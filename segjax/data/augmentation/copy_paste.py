"""Copy-paste augmentation within one example."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from segjax.data.targets import TARGETS
from segjax.ops.filters import gaussian_blur
from segjax.typing import IGNORE, Array, Batch

# Standard deviation in pixels of the soft edge that blends a copy into the background.
RIM = 1.0


class _Copy(NamedTuple):
    """Random parameters of a copy.

    Attributes:
      numbers: [5] float in [0, 1), position and pose.
      salt: uint32, selects the instance.
      new: id of the copy; 0 for no copy.
    """

    numbers: Array
    salt: Array
    new: Array


def copy_paste(key: Array, example: Batch, *, count: int, overlap: float) -> Batch:
    """Pastes flipped or rotated copies of instances of an example into it, at random positions.

    A copy has the class and the targets of the original, but no colour, and an unused id. The visible part of
    a partly covered instance keeps its id and targets. Instances cut by the border of the example or of the
    image are not copied. A copy that overlaps other instances too much is dropped, so crowded examples hardly
    change.

    Args:
      key: random key.
      example: a `Batch` without B, with square maps. If it has "classes", only ids of class 0 are unused;
        without such ids, nothing is pasted.
      count: maximum number of copies.
      overlap: maximum fraction of a copy that covers other instances.

    Returns:
      The example with copies.

    References:
      Ghiasi et al., Simple copy-paste (https://arxiv.org/abs/2012.07177).
    """
    pasted: Batch = jax.tree.map(jnp.asarray, example)
    pose_key, salt_key = jax.random.split(key)
    example = pasted
    if "classes" in example:
        free = jnp.nonzero(example["classes"] == 0, size=count, fill_value=-1)[0] + 1
    else:
        free = jnp.max(example["labels"]) + 1 + jnp.arange(count)
    copies = _Copy(
        jax.random.uniform(pose_key, (count, 5)),
        jax.random.bits(salt_key, (count,)),
        free.astype(jnp.int32),
    )

    def add(pasted: Batch, copy: _Copy) -> tuple[Batch, None]:
        return _paste(example, pasted, copy, overlap), None

    return jax.lax.scan(add, pasted, copies)[0]


def _paste(example: Batch, pasted: Batch, copy: _Copy, overlap: float) -> Batch:
    """Adds a copy of an instance of `example` to `pasted`, which may already have copies."""
    labels = example["labels"]
    size = len(labels)
    chosen = _draw_instance(copy.salt, labels)
    inside = labels == chosen
    source = _read_at(_middle(inside), copy.numbers, size)
    within = jnp.all((source >= 0) & (source < size), axis=0)
    rows, columns = jnp.clip(source, 0, size - 1)

    # Twice the blurred mask is about 1 at the edge of the instance and decreases outside.
    soft = jnp.minimum(2 * gaussian_blur(inside.astype(jnp.float32)[..., None], RIM), 1)
    image, moved_soft = example["image"][rows, columns], soft[rows, columns]
    covered = inside[rows, columns] & within
    semantic = example["semantic"][rows, columns]

    edges = [inside[0], inside[-1], inside[:, 0], inside[:, -1]]
    area = jnp.sum(covered)
    crowded = jnp.sum(covered & (pasted["labels"] > 0)) > overlap * area
    # Beyond the image border, `semantic` is IGNORE. Instances that touch this region are cut, too.
    beyond = (soft[..., 0] > 0.1) & (example["semantic"] == IGNORE)
    cut = jnp.any(jnp.stack(edges)) | jnp.any(beyond)
    usable = (chosen > 0) & (copy.new > 0) & (area > 0) & ~cut & ~crowded
    covered &= usable
    # The soft edge contains background, so it blends only with background.
    around = within & usable & (pasted["labels"] == 0)
    weight = jnp.where(covered, 1, jnp.where(around, moved_soft[..., 0], 0))[..., None]
    result: Batch = {
        **pasted,
        "image": pasted["image"] + weight * (image - pasted["image"]),
        "labels": jnp.where(covered, copy.new, pasted["labels"]),
        "semantic": jnp.where(covered, semantic, pasted["semantic"]),
    }
    result_maps, example_maps = cast(dict[str, Array], result), cast(dict[str, Array], example)
    for name in TARGETS.keys() & pasted.keys():
        moved = example_maps[name][rows, columns]
        # A copy has new neighbours, so its colour is unknown.
        result_maps[name] = jnp.where(covered, 0 if name == "colours" else moved, result_maps[name])
    if "classes" in pasted:
        kind = jnp.where(usable, pasted["classes"][chosen - 1], 0)
        slot = jnp.where(
            copy.new > 0, copy.new - 1, len(pasted["classes"])
        )  # out of range without a copy: dropped
        result["classes"] = jnp.asarray(pasted["classes"]).at[slot].set(kind, mode="drop")
    return result


def _draw_instance(salt: Array, labels: Array) -> jax.Array:
    """Draws an instance id, all with equal probability; 0 if there is no instance.

    A hash gives the pixels of an instance a common pseudo-random rank, so no table of ids is needed.
    """
    rank = labels.astype(jnp.uint32) ^ salt
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):  # the finaliser of MurmurHash3
        rank = (rank ^ (rank >> 16)) * jnp.uint32(multiplier)
    rank = jnp.where(labels > 0, (rank >> 1) + 1, 0)
    return labels.ravel()[jnp.argmax(rank)]


def _middle(inside: Array) -> jax.Array:
    """Returns the centre [2] int of the bounding box of a mask [S, S]."""
    place = jnp.arange(len(inside))
    sides = jnp.stack([jnp.any(inside, axis=1), jnp.any(inside, axis=0)])
    low = jnp.min(jnp.where(sides, place[None], len(inside)), axis=1)
    return (low + jnp.max(jnp.where(sides, place[None], 0), axis=1)) // 2


def _read_at(middle: Array, numbers: Array, size: int) -> jax.Array:
    """Returns the source pixel of each pixel [2, S, S] int, for a random position and one of eight poses."""
    target = jnp.floor(numbers[:2] * size).astype(jnp.int32)
    signs = jnp.where(numbers[2:4] < 0.5, 1, -1)
    place = jnp.arange(size)
    offsets = jnp.stack(
        [
            jnp.broadcast_to(signs[0] * (place - target[0])[:, None], (size, size)),
            jnp.broadcast_to(signs[1] * (place - target[1])[None, :], (size, size)),
        ]
    )
    offsets = jnp.where(numbers[4] < 0.5, offsets, offsets[::-1])
    return offsets + middle[:, None, None]
