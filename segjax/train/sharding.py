"""Device mesh ("data", "fsdp"): batches are sharded over both axes, parameters over "fsdp"."""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from segjax.errors import InputError
from segjax.typing import PyTree


def make_mesh(*, data: int, fsdp: int, devices: list[jax.Device] | None = None) -> Mesh:
    """Makes a mesh of two axes.

    Args:
      data: number of model replicas; -1 for as many as there are devices for.
      fsdp: number of devices over which the parameters of each replica are sharded.
      devices: `jax.devices()` if None.

    Returns:
      The mesh. Its axes are Auto, because scatter-add, sort and concatenation raise on Explicit axes.

    Raises:
      InputError: if the devices do not fit the mesh.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or (data < 1 and data != -1) or len(devices) % fsdp:
        raise InputError(
            f"config.mesh.data={data}, config.mesh.fsdp={fsdp} does not fit {len(devices)} devices:"
            " fsdp must divide their number, and data=-1 takes the rest"
        )
    data = len(devices) // fsdp if data == -1 else data
    if data * fsdp > len(devices):
        raise InputError(
            f"config.mesh.data={data} x config.mesh.fsdp={fsdp} needs {data * fsdp} devices, but there are"
            f" {len(devices)}: data=-1 takes what is there"
        )
    axes = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axes, devices=devices[: data * fsdp])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh, state: PyTree) -> PyTree:
    """Returns the sharding of each leaf of a state.

    A leaf is split over "fsdp" along its largest dimension that is divisible by the size of that axis. Leaves
    without such a dimension, and leaves of fewer than 1,024 elements, are replicated.

    Args:
      mesh: from `make_mesh`.
      state: tree of arrays or of `jax.ShapeDtypeStruct`.

    Returns:
      The tree of shardings.
    """
    count = mesh.shape["fsdp"]

    def split(leaf: jax.Array) -> NamedSharding:
        sizes = [size if count > 1 and size % count == 0 else 0 for size in leaf.shape]
        if math.prod(leaf.shape) < 2**10 or not any(sizes):  # too small to be worth the communication
            return replicated(mesh)
        axis = max(range(len(sizes)), key=sizes.__getitem__)
        return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "fsdp"))

    return jax.tree.map(split, state)


def with_shardings(shapes: PyTree, shardings: PyTree) -> PyTree:
    """Returns a tree of shapes with shardings."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> None:
    """Checks that a batch can be split over the devices and microbatches.

    Raises:
      InputError: if the batch size is not a multiple of devices times microbatches.
    """
    parts = mesh.size * accumulate
    if batch_size % parts:
        raise InputError(
            f"batch_size={batch_size} cannot be split over {mesh.size} devices x"
            f" {accumulate} microbatches: make it a multiple of {parts}",
            field="batch_size",
        )
