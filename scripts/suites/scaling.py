"""Scaling on paper: what the devices of a training step exchange and hold, from the compiled program."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Assumed: the peak of an H100 in bfloat16 and the fraction of it that is reached, and bytes per second and
# direction of each GPU inside a node of eight (NVLink) and between nodes (400 Gbit/s).
PEAK, REACHED = 989e12, 0.4
NODE, LINK_IN_NODE, LINK_BETWEEN = 8, 450e9, 50e9
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
COUNTS = (1, 2, 4, 8, 16, 64, 256)


@dataclass(frozen=True)
class Collective:
    """An exchange between devices.

    Attributes:
      kind: name in the compiled program.
      size: bytes of the result on each device.
      devices: number of devices that exchange; 2 for a collective-permute.
    """

    kind: str
    size: int
    devices: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, by algorithms that send the least."""
        others = (self.devices - 1) / self.devices
        factors = {
            "all-reduce": 2 * others,
            "reduce-scatter": self.devices - 1,
            "collective-permute": 1,
        }
        return self.size * factors.get(self.kind, others)


def collectives(program: str) -> Iterator[Collective]:
    """Yields the collectives in the text of a compiled program; those in a loop count once."""
    for line in program.splitlines():
        found = re.search(rf"= (.*?) ({KINDS})\(", line)
        if not found:
            continue
        size = 0
        for dtype, sides in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", found.group(1)):
            size += BYTES[dtype] * math.prod(int(side) for side in sides.split(",") if side)
        yield Collective(found.group(2), size, _group_size(line))


def _group_size(line: str) -> int:
    """Reads {{0,1},{2,3}}, [2,4]<=[8], mesh['a'=2,'b'=4] {'b'} or, for a part of an axis, {'b':(1)2}."""
    if "source_target_pairs" in line:
        return 2
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed.group(1).count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(iota.group(1))
    mesh = re.search(r"replica_groups=mesh\[(.*?)\].*? \{('.*?)\}", line)
    if mesh is None:
        raise ValueError(f"unknown groups of devices: {line.strip()}")
    sizes = dict(re.findall(r"('\w+')=(\d+)", mesh.group(1)))
    used = re.findall(r"('\w+')(?::\(\d+\)(\d+))?", mesh.group(2))
    return math.prod(int(part or sizes[axis]) for axis, part in used)


def efficiency(flops: float, sent: float, devices: int) -> float:
    """Returns the predicted weak-scaling efficiency, if nothing is sent while a device computes.

    Args:
      flops: operations of a step on each device.
      sent: bytes that each device sends in a step.
      devices: number of devices; between nodes, the slower link counts.
    """
    computing = flops / (PEAK * REACHED)
    sending = sent / (LINK_IN_NODE if devices <= NODE else LINK_BETWEEN)
    return computing / (computing + sending)


def main(config: Any, *, batch: int) -> None:
    """Prints the table, for `batch` images per device or group of devices that split an image."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(COUNTS))

    from segjax.experiment.setup import RUN_ONCE, make_setup, make_stream, make_task, open_split
    from segjax.experiment.workdir import ModelMetadata
    from segjax.train.cost import model_flops

    source = open_split(config, "train")
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    rows = make_stream(config, source, make_task(config, metadata)).batch(0)
    config.mesh.data = -1
    group = config.mesh.fsdp * config.mesh.space
    print("devices  collectives  MiB sent  MiB arguments  MiB temporary  predicted efficiency")
    for devices in [count for count in COUNTS if count % group == 0]:
        config.batch_size = batch * devices // config.mesh.space
        setup = make_setup(config, metadata, jax.devices()[:devices])
        shapes = {
            name: jax.ShapeDtypeStruct((config.batch_size, *values.shape[1:]), values.dtype)
            for name, values in rows.items()
        }
        traced = setup.step.trace(setup.shapes, shapes, jax.random.key(0))
        compiled = traced.lower().compile(RUN_ONCE)
        exchanges, memory = list(collectives(compiled.as_text())), compiled.memory_analysis()
        sent = sum(exchange.sent for exchange in exchanges)
        predicted = efficiency(model_flops(traced.jaxpr.jaxpr) / devices, sent, devices)
        sizes = [sent, memory.argument_size_in_bytes, memory.temp_size_in_bytes]
        columns = " ".join(f"{size / 2**20:14.1f}" for size in sizes)
        print(f"{devices:7d} {len(exchanges):12d} {columns} {predicted:21.1%}", flush=True)
