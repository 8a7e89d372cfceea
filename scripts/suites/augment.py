"""Benchmark of on-device augmentation relative to a training step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from suites.network import descent, finished
from suites.timing import measure, print_hardware

# Maximum time as a fraction of a training step.
GOAL = 0.1


class Row(NamedTuple):
    """Cost of one augmentation policy.

    Attributes:
      policy: description of the policy.
      seconds: seconds per batch.
      images: images per second.
      fraction: fraction of the time of a VGG16 U-Net training step on a batch of the same size.
    """

    policy: str
    seconds: float
    images: float
    fraction: float


def main(*, size: int, batch: int, rounds: int) -> None:
    """Times the policies and prints a table."""
    print_hardware()
    print(
        f"{batch} patches of {size} x {size} x 3, relative to a training step of the full-width VGG16 U-Net\n"
    )
    print("| policy | a batch | images/s | part of a training step | goal |")
    print("|---|---|---|---|---|")
    for row in augmentation_rows(size, batch, rounds):
        goal = f"{GOAL:.0%}" if row.fraction <= GOAL else f"{GOAL:.0%}: not reached"
        print(
            f"| {row.policy} | {1e3 * row.seconds:.1f} ms | {row.images:.0f} | {row.fraction:.1%} | {goal} |"
        )


def augmentation_rows(size: int, batch: int, rounds: int) -> list[Row]:
    """Times the default policy, a policy of all operations, and a training step.

    Args:
      size: side of the patches, pixels; a multiple of 16.
      batch: patches per batch.
      rounds: number of timed calls; the result is their median.

    Returns:
      One row per policy.
    """
    import jax

    from segjax.data.augmentation.policy import OPERATIONS, POLICY, make_augment

    examples = windows(size, batch)
    calls: dict[str, Callable[[], Any]] = {}
    policies = {"default": POLICY, f"all {len(OPERATIONS)} operations": tuple(OPERATIONS)}
    for name, policy in policies.items():
        augment = jax.vmap(make_augment(patch_size=size, policy=policy))
        arguments = (jax.random.split(jax.random.key(0), batch), examples)
        compiled = jax.jit(augment).lower(*arguments).compile()
        calls[name] = functools.partial(finished, compiled, arguments)
    # Timed separately, because the first call after a training step is slowed down by its use of memory.
    seconds = measure(calls, rounds)
    step = measure({"step": training_step(size, batch)}, rounds)["step"]
    return [Row(name, seconds[name], batch / seconds[name], seconds[name] / step) for name in policies]


def windows(size: int, batch: int) -> Any:
    """Returns a batch of synthetic RGB cells on the device, with the margin for rotation and scale."""
    import jax
    import numpy as np

    from segjax.data.stream import Stream, StreamConfig
    from segjax.datasets.synthetic import SyntheticSource

    side = int(np.ceil(1.25 * size))
    source = SyntheticSource("train", image_size=side, channels=3)
    return jax.device_put(Stream(source, StreamConfig(seed=0, batch_size=batch, patch_size=side)).batch(0))


def training_step(size: int, batch: int) -> Callable[[], Any]:
    """Returns a compiled gradient descent step of the VGG16 U-Net."""
    import jax
    import numpy as np

    from segjax.models.segmenters import create_segmenter
    from segjax.tasks.semantic import SemanticConfig, SemanticTask, output_channels

    config = SemanticConfig()
    model = create_segmenter(encoder="vgg16", outputs=output_channels(config, 2))
    task = SemanticTask(model, 2, config)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (batch, size, size), np.int32)
    data = {"image": rng.random((batch, size, size, 3), np.float32), "semantic": labels, "labels": labels}
    data["distance"] = rng.random((batch, size, size), np.float32)
    key = jax.random.key(0)
    params = jax.jit(task.init)(key, data)

    arguments = (params, jax.device_put(data))
    return functools.partial(finished, jax.jit(descent(task, key)).lower(*arguments).compile(), arguments)
