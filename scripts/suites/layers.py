"""Benchmark of the kinds of layers of a VGG16 U-Net against torch: where the time goes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from segjax.errors import InputError
from segjax.losses.combine import weighted_sum
from segjax.losses.pixel import smooth_l1
from segjax.models.layers import TransposedConvolution, max_pool
from segjax.models.norms import GroupNorm, standardise
from segjax.models.vgg import CHANNELS, VARIANTS
from segjax.ops.convolution import NHWC, conv_general_dilated
from suites.network import device, wait
from suites.timing import measure, print_hardware

CLASSES = 3
Function = Callable[..., Any]


class Shape(NamedTuple):
    """Shape of the input of a layer, and its number of output channels.

    Attributes:
      side: height and width, pixels.
      inputs: channels of the input.
      outputs: channels of the output.
    """

    side: int
    inputs: int
    outputs: int


class Kind(NamedTuple):
    """All layers of one kind.

    Attributes:
      name: what they are.
      segjax: `(input, kernel) -> output` for arrays [B, H, W, C] and [h, w, C, C'].
      torch: the same for tensors [B, C, H, W] and [C', C, h, w].
      shapes: one for each layer.
      kernel: side of the kernels; 0 for layers without a kernel.
      has_input: whether the functions take the input; those of kernels alone do not.
    """

    name: str
    segjax: Function
    torch: Function
    shapes: Sequence[Shape]
    kernel: int = 0
    has_input: bool = True


def main(*, size: int, batch: int, rounds: int, width: float) -> None:
    """Times the layers and prints a table.

    Args:
      size: side of the images, a multiple of 16.
      batch: number of images.
      rounds: number of timed calls; the result is their median.
      width: multiplies the channels of VGG16.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError('the layers suite needs torch: pip install -e ".[peers]"') from error
    print_hardware()
    print(f"torch {torch.__version__}, VGG16 U-Net, width {width}, {batch} x {size} x {size}\n")
    print("| all layers of a kind | forward: segjax | torch | ratio | and backward: segjax | torch | ratio |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds(size, width):
        cells = [kind.name]
        for backward in (False, True):
            seconds = measure(calls(kind, batch, backward=backward), rounds)
            cells += [f"{1e3 * value:.1f} ms" for value in seconds.values()]
            cells.append(f"{seconds['torch'] / seconds['segjax']:.2f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    seconds = measure(optimizer_calls(size, width), rounds)
    cells = [f"{1e3 * value:.1f} ms" for value in seconds.values()]
    print(f"| AdamW | | | | {' | '.join(cells)} | {seconds['torch'] / seconds['segjax']:.2f} |")
    images = np.random.default_rng(0).random((batch, size, size, 1), np.float32)
    (copying,) = measure({"copy": lambda: jax.block_until_ready(jax.device_put(images))}, rounds).values()
    print(f"\ncopy of the images to the device: {1e3 * copying:.2f} ms")


def convolution_shapes(size: int, width: float) -> tuple[list[Shape], list[Shape]]:
    """Returns the shapes of the 3 x 3 and of the transposed convolutions of the network."""
    channels = [max(round(width * count), 1) for count in CHANNELS]
    before, convolutions, doubles = 1, [], []
    for level, (count, after) in enumerate(zip(VARIANTS["vgg16"], channels, strict=True)):
        side = size // 2**level
        convolutions += [Shape(side, before if index == 0 else after, after) for index in range(count)]
        before = after
    for level in range(len(channels) - 2, -1, -1):
        side, skip = size // 2**level, channels[level]
        after = max(skip // 2, 1)
        doubles.append(Shape(side // 2, before, after))
        convolutions += [Shape(side, skip + after, after), Shape(side, after, after)]
        before = after
    return convolutions, doubles


def kinds(size: int, width: float) -> list[Kind]:
    """Returns the kinds of layers of the network."""
    from torch.nn import functional as F

    convolutions, doubles = convolution_shapes(size, width)
    channels = [max(round(width * count), 1) for count in CHANNELS]
    outputs = [Shape(shape.side, shape.outputs, shape.outputs) for shape in convolutions]
    pools = [Shape(size // 2**level, count, count) for level, count in enumerate(channels[:-1])]
    head = [Shape(size, convolutions[-1].outputs, CLASSES + 1)]
    convolve = functools.partial(
        conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NHWC
    )
    return [
        Kind("3 x 3 convolutions", convolve, lambda x, k: F.conv2d(x, k, padding=1), convolutions, 3),
        Kind("standardised kernels", standardise, _standardised, convolutions, 3, has_input=False),
        Kind("scale, shift, ReLU", lambda x: jax.nn.relu(1.1 * x + 0.1), _torch_affine, outputs),
        Kind("GroupNorm, ReLU", _group_norm, _torch_group_norm, outputs),
        Kind("max-pool", max_pool, lambda x: F.max_pool2d(x, 2), pools),
        Kind("transposed convolutions", _double, _torch_double, doubles, 2),
        Kind("1 x 1 convolution", convolve, lambda x, k: F.conv2d(x, k), head, 1),
        Kind("loss: cross-entropy, Dice, smooth L1", _loss, _torch_loss, [Shape(size, CLASSES + 1, 1)]),
    ]


def calls(kind: Kind, batch: int, *, backward: bool) -> dict[str, Callable[[], Any]]:
    """Returns calls of all layers of a kind, in segjax and in torch, with their gradients if asked for."""
    import torch

    rng = np.random.default_rng(0)
    arguments: list[list[np.ndarray]] = []
    for shape in kind.shapes:
        sizes = [(batch, shape.side, shape.side, shape.inputs)] if kind.has_input else []
        sizes += [(kind.kernel, kind.kernel, shape.inputs, shape.outputs)] if kind.kernel else []
        arguments.append([rng.normal(size=one).astype(np.float32) for one in sizes])

    def forward(values: list[list[Array]]) -> list[Array]:
        return [kind.segjax(*one) for one in values]

    def both(values: list[list[Array]], cotangents: list[Array]) -> Any:
        return jax.vjp(forward, values)[1](cotangents)

    placed = jax.device_put(arguments)
    ones = [jnp.ones_like(output) for output in jax.eval_shape(forward, placed)]
    function = jax.jit(both if backward else forward)
    inputs = (placed, ones) if backward else (placed,)
    tensors = [
        [
            _tensor(one, is_image=kind.has_input and not index, is_leaf=backward)
            for index, one in enumerate(values)
        ]
        for values in arguments
    ]
    leaves = [one for values in tensors for one in values]

    def torch_call() -> Any:
        results = [kind.torch(*values) for values in tensors]
        if backward:
            gradients = [torch.ones_like(result) for result in results]
            results = torch.autograd.grad(results, leaves, gradients)
        return wait(results)

    return {"segjax": lambda: jax.block_until_ready(function(*inputs)), "torch": torch_call}


def _tensor(values: np.ndarray, *, is_image: bool, is_leaf: bool) -> Any:
    """Returns images as [B, C, H, W], or a kernel as [C', C, h, w], with channels last in memory."""
    import torch

    tensor = torch.from_numpy(values).permute((0, 3, 1, 2) if is_image else (3, 2, 0, 1)).to(device())
    return tensor.contiguous(memory_format=torch.channels_last).requires_grad_(is_leaf)


def optimizer_calls(size: int, width: float) -> dict[str, Callable[[], Any]]:
    """Returns calls of an update of all kernels by AdamW."""
    import torch

    convolutions, doubles = convolution_shapes(size, width)
    shapes = [(3, 3, one.inputs, one.outputs) for one in convolutions]
    shapes += [(2, 2, one.inputs, one.outputs) for one in doubles]
    params = [jnp.ones(shape) for shape in shapes]
    optimizer = optax.adamw(1e-3)
    state = optimizer.init(params)

    @jax.jit
    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    leaves = [torch.ones(shape, device=device(), requires_grad=True) for shape in shapes]
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    torch_optimizer = torch.optim.AdamW(leaves, lr=1e-3)
    return {
        "segjax": lambda: jax.block_until_ready(update(params, state, params)),
        "torch": lambda: wait(torch_optimizer.step()),
    }


def _group_norm(x: Array) -> Array:
    channels = x.shape[-1]
    params = {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}
    return jax.nn.relu(jnp.asarray(GroupNorm().apply({"params": params}, x)))


def _double(x: Array, kernel: Array) -> Array:
    params = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}
    return jnp.asarray(TransposedConvolution(kernel.shape[-1]).apply({"params": params}, x))


def _loss(outputs: Array) -> Array:
    shape = outputs.shape[:3]
    truth = jnp.broadcast_to(jnp.arange(shape[-1]) // 7 % CLASSES, shape)
    batch: Any = {"semantic": truth, "labels": truth}
    total, _ = weighted_sum({"cross_entropy": 1.0, "dice": 1.0})(outputs[..., :CLASSES], batch)
    return total + smooth_l1(outputs[..., CLASSES], jnp.zeros(shape)).mean()


def _standardised(kernel: Any) -> Any:
    centred = kernel - kernel.mean((1, 2, 3), keepdim=True)
    return centred * (centred**2).sum((1, 2, 3), keepdim=True).rsqrt()


def _torch_affine(x: Any) -> Any:
    from torch.nn import functional as F

    return F.relu(1.1 * x + 0.1)


def _torch_group_norm(x: Any) -> Any:
    from torch.nn import functional as F

    channels = x.shape[1]
    groups = max(count for count in range(1, min(32, channels // 4) + 1) if channels % count == 0)
    return F.relu(F.group_norm(x, groups))


def _torch_double(x: Any, kernel: Any) -> Any:
    from torch.nn import functional as F

    return F.conv_transpose2d(x, kernel.permute(1, 0, 2, 3), stride=2)


def _torch_loss(outputs: Any) -> Any:
    import torch
    from torch.nn import functional as F

    truth = torch.arange(outputs.shape[-1], device=outputs.device) // 7 % CLASSES
    truth = truth.expand(outputs.shape[0], *outputs.shape[2:])
    probabilities = F.softmax(outputs[:, :CLASSES], 1)
    one_hot = F.one_hot(truth, CLASSES).permute(0, 3, 1, 2)
    overlap, total = (probabilities * one_hot).sum((0, 2, 3)), (probabilities + one_hot).sum((0, 2, 3))
    distance = F.smooth_l1_loss(outputs[:, CLASSES], torch.zeros_like(outputs[:, CLASSES]), beta=0.1)
    return F.cross_entropy(outputs[:, :CLASSES], truth) + 1 - (2 * overlap / total).mean() + distance
