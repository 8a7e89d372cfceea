"""Where arrays live: a mesh ("data", "fsdp"), batches split over both, parameters over the second."""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from segjax.errors import InputError
from segjax.typing import PyTree


def make_mesh(*, data: int, fsdp: int, devices: list[jax.Device] | None = None) -> Mesh:
    """Makes the mesh.

    Args:
      data: devices that hold whole replicas of each other; -1 for all that `fsdp` leaves.
      fsdp: devices over which each replica's parameters are split.
      devices: all of this run's devices if None.

    Returns:
      The mesh, with axes of type Auto: on Explicit ones scatter-add, sort and concatenation raise.

    Raises:
      InputError: if there are not as many devices.
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
    """Of a batch: its leading axis over every device."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh, state: PyTree) -> PyTree:
    """Of a state: each leaf split along its largest dimension that the fsdp axis divides, else whole.

    Args:
      mesh: from `make_mesh`.
      state: tree of arrays or of their shapes.

    Returns:
      The tree of shardings.
    """
    count = mesh.shape["fsdp"]

    def split(leaf: jax.Array) -> NamedSharding:
        sizes = [size if count > 1 and size % count == 0 else 0 for size in leaf.shape]
        if math.prod(leaf.shape) < 2**10 or not any(sizes):  # not worth a message between devices
            return replicated(mesh)
        axis = max(range(len(sizes)), key=sizes.__getitem__)
        return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "fsdp"))

    return jax.tree.map(split, state)


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> None:
    """Checks that a batch can be split.

    Raises:
      InputError: if devices times microbatches do not divide the batch.
    """
    parts = mesh.size * accumulate
    if batch_size % parts:
        raise InputError(
            f"batch_size={batch_size} cannot be split over {mesh.size} devices x"
            f" {accumulate} microbatches: make it a multiple of {parts}",
            field="batch_size",
        )
