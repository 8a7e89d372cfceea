"""Splits a network and its loss over the devices of a mesh, as they are traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.models.interception import around_convolutions
from segjax.ops.convolution import split_over_devices
from segjax.train.sharding import BATCH_AXES
from segjax.typing import Array, Batch


def split_rows(mesh: Mesh, batch: Batch) -> Batch:
    """Splits the rows of images and maps [B, H, W, ...] over the axis "space" of a mesh."""
    if mesh.shape["space"] == 1:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(BATCH_AXES, "space"))
    shape = batch["image"].shape[:3]

    def split(leaf: Array) -> Array:
        return jax.lax.with_sharding_constraint(leaf, sharding) if leaf.shape[:3] == shape else leaf

    return jax.tree.map(split, batch)


@contextmanager
def split_network(mesh: Mesh) -> Iterator[None]:
    """Lets networks that are traced within be split over a mesh.

    XLA follows the sharding of the batch, and sends the rows at the borders to the neighbours. Where a
    convolution has fewer rows than devices, XLA (of jax 0.10.2) splits them nevertheless, and a mean over its
    result then includes what is not in the image. So the rows of each convolution are pinned: to "space" if
    that divides their number, else each device has all.
    """
    if mesh.size == 1:
        yield
        return

    def pin(x: Array) -> Array:
        rows = "space" if x.shape[1] % mesh.shape["space"] == 0 else None
        sharding = NamedSharding(mesh, PartitionSpec(PartitionSpec.UNCONSTRAINED, rows))
        return jax.lax.with_sharding_constraint(x, sharding)

    with split_over_devices():
        if mesh.shape["space"] == 1:
            yield
            return
        with around_convolutions(pin):
            yield
