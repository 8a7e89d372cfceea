"""All comparisons with torch on one GPU: networks in bfloat16, RoIAlign and suppression, as JSON."""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from segjax.errors import InputError
from suites import detection
from suites.detection import Calls
from suites.network import add_torch, finished, network_and_data, programs
from suites.timing import measure

DTYPE = "bfloat16"
# Goals: the time of torch divided by that of segjax.
UNET, MASK_RCNN, ALIGN = 1.3, 1.5, 1.0


class Comparison(NamedTuple):
    """What is timed.

    Attributes:
      name: what the calls compute.
      calls: calls of segjax and torch, which wait for their results.
      goal: smallest ratio of torch's time to that of segjax; None for no goal.
      flops: operations of the convolutions and matrix products in segjax's call; None where it has none.
      start: starts segjax's call without waiting for it.
    """

    name: str
    calls: Calls
    goal: float | None
    flops: float | None = None
    start: Callable[[], Any] | None = None


def main(*, size: int, batch: int, rounds: int, width: float) -> None:
    """Times everything on the device that JAX and torch use by default, and prints JSON.

    torch computes with autocast and, for the U-Net, with `channels_last` and, on a GPU, `torch.compile`.
    """
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise InputError('the suite gpu needs torchvision: pip install -e ".[peers]"') from error
    from segjax.experiment import environment

    where = environment.hardware_info()
    result = {
        **{name: where[name] for name in ("device", "cores", "jax", "python")},
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device_of_torch": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "size": size,
        "batch": batch,
        "rows": [],
    }
    for comparison in comparisons(size, batch, width):
        row = timed(comparison, rounds)
        print(f"{row['name']}: ratio {row['ratio']}", file=sys.stderr, flush=True)
        result["rows"].append(row)
    print(json.dumps(result, indent=1))


def timed(comparison: Comparison, rounds: int) -> dict[str, Any]:
    """Returns the seconds of a comparison and what follows from them.

    `model_flops_utilisation` is None if the peak of the device is not known. `host_fraction` is the time
    until a call of segjax returns, before its result is there, as a fraction of the time of the call.
    """
    import jax

    from segjax.train.cost import peak

    seconds = measure(comparison.calls, rounds)
    segjax, torch = seconds["segjax"], seconds["torch"]
    row = {
        "name": comparison.name,
        "segjax_seconds": segjax,
        "torch_seconds": torch,
        "ratio": round(torch / segjax, 2),
        "goal": comparison.goal,
    }
    if comparison.flops is not None:
        most = peak(jax.devices()[0].device_kind)
        row["model_flops_utilisation"] = None if most is None else comparison.flops / segjax / most
    if comparison.start is not None:
        began = time.perf_counter()
        running = comparison.start()
        row["host_fraction"] = (time.perf_counter() - began) / segjax
        jax.block_until_ready(running)
    return row


def comparisons(size: int, batch: int, width: float) -> list[Comparison]:
    """Returns what is timed, for images of `size` x `size`."""
    return [
        *unet(size, batch, width),
        *(Comparison(name, calls, MASK_RCNN) for name, calls in detection.network(size, batch, DTYPE)),
        *(Comparison(name, calls, ALIGN) for name, calls in detection.align(size, batch)),
        *(Comparison(name, calls, None) for name, calls in detection.suppression()),
    ]


def unet(size: int, batch: int, width: float) -> list[Comparison]:
    """Returns inference and training step of the VGG16 U-Net."""
    import jax
    import torch

    from segjax.configs import semantic
    from segjax.train.cost import model_flops

    config = semantic.get_config("dataset=synthetic")
    config.model.update(width=width, dtype=DTYPE)
    task, params, data = network_and_data(config, size, batch)
    calls: dict[str, Calls] = {}
    flops, starts = {}, {}
    for name, (function, arguments) in programs(task, params, data).items():
        traced = jax.jit(function).trace(*arguments)
        compiled, flops[name] = traced.lower().compile(), model_flops(traced.jaxpr.jaxpr)
        calls[name] = {"segjax": functools.partial(finished, compiled, arguments)}
        starts[name] = functools.partial(compiled, *arguments)
    add_torch(calls, config, params, data, compiled=torch.cuda.is_available())
    return [
        Comparison(
            f"VGG16 U-Net, {batch} x {size} x {size}, {name}", calls[name], UNET, flops[name], starts[name]
        )
        for name in calls
    ]
