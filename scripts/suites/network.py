"""Benchmark of a config's network: training, inference, compilation and memory, optionally against torch."""

import functools
import time
from collections.abc import Callable
from typing import Any

from segjax.errors import InputError
from suites.timing import measure


def descent(task: Any, key: Any) -> Callable[[Any, Any], Any]:
    """Returns a plain gradient descent step; an optimizer would add the same few percent to all networks."""
    import jax

    def descend(params: Any, data: Any) -> Any:
        gradient = jax.grad(lambda params: task.loss(params, data, key)[0])(params)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)

    return descend


def programs(task: Any, params: Any, data: Any) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Returns what is timed of a network, `inference` and `training`: the functions and their arguments."""
    import jax

    data = jax.device_put(data)
    return {
        "inference": (task.predict, (params, data["image"])),
        "training": (descent(task, jax.random.key(0)), (params, data)),
    }


def device() -> str:
    """Returns the device that torch uses."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def wait(value: Any = None) -> Any:
    """Waits for torch's device and returns the value."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return value


def mixed(dtype: str) -> Any:
    """Returns the context in which torch computes in a dtype, as far as autocast allows."""
    import torch

    return torch.autocast(device(), torch.bfloat16, enabled=dtype == "bfloat16")


def main(config: Any, *, size: int, batch: int, rounds: int, peer: bool) -> None:
    """Times the network and prints the results."""
    import jax

    from segjax.experiment import environment

    if size % 16:
        raise InputError(
            f"--size={size} is not a multiple of 16, which torch's decoder needs: try {size // 16 * 16}"
        )
    task, params, data = network_and_data(config, size, batch)
    calls: dict[str, dict[str, Callable[[], Any]]] = {}
    for name, (function, arguments) in programs(task, params, data).items():
        began = time.perf_counter()
        compiled = jax.jit(function).lower(*arguments).compile()
        memory = compiled.memory_analysis()
        sizes = ("temp", "argument", "output")
        peak = sum(getattr(memory, f"{size}_size_in_bytes", 0) for size in sizes) / 2**20
        print(f"{name}: compiled in {time.perf_counter() - began:.1f} s, {peak:.0f} MiB at its peak")
        calls[name] = {"segjax": functools.partial(finished, compiled, arguments)}
    if peer:
        add_torch(calls, config, params, data)

    where = environment.hardware_info()
    print(f"\n{where['device']}, {where['cores']} cores, jax {where['jax']}, Python {where['python']}")
    print(
        f"{config.model.encoder}, width {config.model.width}, {config.model.dtype}, {batch} x {size} x {size}"
    )
    for name, by_library in calls.items():
        seconds = measure(by_library, rounds)
        cells = [
            f"{library} {1e3 * value:.0f} ms ({batch / value:.1f} images/s)"
            for library, value in seconds.items()
        ]
        if "torch" in seconds:
            cells.append(f"ratio {seconds['torch'] / seconds['segjax']:.2f}")
        print(f"{name}: {', '.join(cells)}")


def network_and_data(config: Any, size: int, batch: int) -> tuple[Any, Any, dict[str, Any]]:
    """Returns the task of a config for images of one channel, its parameters, and a random batch."""
    import jax
    import numpy as np

    from segjax.experiment.setup import make_task
    from segjax.experiment.workdir import ModelMetadata

    task = make_task(config, ModelMetadata(("background", "cell", "other"), 1))
    rng = np.random.default_rng(0)
    semantic = rng.integers(0, 3, (batch, size, size), np.int32)
    data = {"image": rng.random((batch, size, size, 1), np.float32), "semantic": semantic, "labels": semantic}
    for target in sorted(task.targets - set(data)):
        data[target] = rng.random((batch, size, size), np.float32)
    return task, jax.jit(task.init)(jax.random.key(0), data), data


def finished(compiled: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Calls a function and waits for its result, as JAX dispatches asynchronously."""
    import jax

    return jax.block_until_ready(compiled(*arguments))


def add_torch(
    calls: dict[str, dict[str, Callable[[], Any]]],
    config: Any,
    params: Any,
    data: Any,
    *,
    compiled: bool = False,
) -> None:
    """Adds the same network in torch, with the same parameters, to the timed calls.

    With `compiled`, by `torch.compile`.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError('--peer needs torch: pip install -e ".[peers]"') from error
    from torch.nn import functional as F

    from segjax.models.vgg import CHANNELS, VARIANTS
    from suites.peers import VGGUNet

    model = config.model
    if model.encoder not in VARIANTS or model.decoder != "transposed" or model.norm != model.decoder_norm:
        raise InputError(
            f"--peer knows encoder={', '.join(VARIANTS)} with decoder=transposed and one norm throughout"
        )
    channels = [max(round(config.model.width * count), 1) for count in CHANNELS]
    settings = {"inputs": 1, "norm": config.model.norm, "outputs": 4}
    network = VGGUNet(VARIANTS[config.model.encoder], channels, **settings).load(params)
    layout = torch.channels_last
    network = network.to(device(), memory_format=layout)
    if compiled:
        network = torch.compile(network)
    images = torch.from_numpy(data["image"]).permute(0, 3, 1, 2).to(device(), memory_format=layout)
    targets = torch.from_numpy(data["semantic"]).long().to(device())
    distance = torch.from_numpy(data["distance"]).to(device())
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def infer() -> None:
        with torch.inference_mode(), mixed(model.dtype):
            F.softmax(network(images)[:, :3].float(), 1)
        wait()

    def train() -> None:
        with mixed(model.dtype):
            logits = network(images).float()
        one_hot = F.one_hot(targets, 3).permute(0, 3, 1, 2)
        probabilities = F.softmax(logits[:, :3], 1)
        overlap, total = (probabilities * one_hot).sum((0, 2, 3)), (probabilities + one_hot).sum((0, 2, 3))
        dice = 1 - (2 * overlap / total).mean()
        loss = (
            F.cross_entropy(logits[:, :3], targets)
            + dice
            + F.smooth_l1_loss(logits[:, 3], distance, beta=0.1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait()

    calls["inference"]["torch"], calls["training"]["torch"] = infer, train
