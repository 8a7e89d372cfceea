"""Device mesh ("data", "fsdp", "space").

Batches are split over "data" and "fsdp", parameters over "fsdp", and the rows of images over "space".
"""

import dataclasses
import itertools
import math
from typing import Annotated, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from segjax.errors import InputError
from segjax.settings import Count, Range, Settings
from segjax.typing import Params, PyTree

BATCH_AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class MeshConfig(Settings):
    """Arguments of `make_mesh`."""

    data: Annotated[int, Range(-1)] = -1
    fsdp: Count = 1
    space: Count = 1


@dataclasses.dataclass(frozen=True)
class BatchPart:
    """The rows of a batch that a process makes.

    Attributes:
      index: index of the part.
      count: number of equal parts. It is less than the number of processes if some make the same rows.
    """

    index: int
    count: int


# The part of a process that makes the complete batch.
COMPLETE = BatchPart(0, 1)


def make_mesh(*, data: int, fsdp: int, space: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """Makes a mesh of three axes.

    Args:
      data: number of model replicas; -1 for as many as there are devices for.
      fsdp: number of devices over which the parameters of each replica are sharded.
      space: number of devices over which the rows of each image are split.
      devices: `jax.devices()` if None.

    Returns:
      The mesh. Its axes are Auto, because scatter-add, sort and concatenation raise on Explicit axes.

    Raises:
      InputError: if the devices do not fit the mesh.
    """
    devices = jax.devices() if devices is None else devices
    replica = fsdp * space
    if min(fsdp, space) < 1 or (data < 1 and data != -1) or len(devices) % replica:
        raise InputError(
            f"config.mesh.data={data}, config.mesh.fsdp={fsdp}, config.mesh.space={space} does not fit"
            f" {len(devices)} devices: fsdp x space must divide their number, and data=-1 takes the rest"
        )
    data = len(devices) // replica if data == -1 else data
    if data * replica > len(devices):
        raise InputError(
            f"config.mesh.data={data} x config.mesh.fsdp={fsdp} x config.mesh.space={space} needs"
            f" {data * replica} devices, but there are {len(devices)}: data=-1 takes what is there"
        )
    names, axes = (*BATCH_AXES, "space"), (AxisType.Auto,) * 3
    mesh = jax.make_mesh((data, fsdp, space), names, axes, devices=devices[: data * replica])
    ordered = by_process(mesh.devices)
    return mesh if ordered is mesh.devices else Mesh(ordered, names, axis_types=axes)


def by_process(devices: np.ndarray) -> np.ndarray:
    """Returns the devices of a mesh in an order in which those of a process are neighbours.

    JAX orders TPUs by their links, and may mix those of different processes. A process makes neighbouring
    rows of a batch, which its devices must hold.
    """
    owners = [device.process_index for device in devices.flat]
    runs = [owner for owner, _ in itertools.groupby(owners)]
    if len(runs) == len(set(runs)):
        return devices
    return devices.ravel()[np.argsort(owners, kind="stable")].reshape(devices.shape)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its leading axis is split, each image is complete."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_part(mesh: Mesh) -> BatchPart:
    """Returns which rows of a batch this process makes: those that its devices hold.

    Raises:
      InputError: if no device of the mesh, or no complete set of devices of an image, is of this process.
    """
    groups = [
        tuple(sorted({device.process_index for device in group}))
        for group in mesh.devices.reshape(-1, mesh.shape["space"])
    ]
    owners = list(dict.fromkeys(groups))
    own = [index for index, owner in enumerate(owners) if jax.process_index() in owner]
    if len(own) != 1:
        raise InputError(
            f"config.mesh.space={mesh.shape['space']} does not fit the {jax.local_device_count()} devices of"
            f" each of {jax.process_count()} processes: one must divide the other, and config.mesh.data=-1"
            " uses all devices"
        )
    return BatchPart(own[0], len(owners))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def on_one_device(params: Params) -> Params:
    """Returns parameters on the first device of this process, each gathered from the devices of its mesh.

    All processes of the mesh call it. Programs of one process can use the result, whatever the others do.
    """

    def gather(leaf: jax.Array) -> jax.Array:
        mesh = cast(NamedSharding, leaf.sharding).mesh
        return jax.device_put(leaf, replicated(cast(Mesh, mesh))).addressable_data(0)

    return jax.tree.map(gather, params)


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


def check_batch(mesh: Mesh, batch_size: int, accumulate: int, patch_size: int) -> None:
    """Checks that a batch can be split over the devices and microbatches, and its images over "space".

    Raises:
      InputError: if the batch size is not a multiple of devices times microbatches, or the patch size is not
        one of the devices of an image.
    """
    space = mesh.shape["space"]
    devices = mesh.size // space
    parts = devices * accumulate
    if batch_size % parts:
        raise InputError(
            f"batch_size={batch_size} cannot be split over {devices} devices x"
            f" {accumulate} microbatches: make it a multiple of {parts}",
            field="batch_size",
        )
    if patch_size % space:
        raise InputError(
            f"config.data.patch_size={patch_size} cannot be split over config.mesh.space={space} devices:"
            " make it a multiple"
        )
