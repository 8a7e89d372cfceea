import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.layers import Convolutions
from segjax.models.margin import Margin, receptive_margin
from segjax.models.segmenters import create_segmenter
from tests.models.quick import random_variables


def margin_of(network, *, stride, channels=1, zeros=False):
    variables = random_variables(network, jnp.zeros((1, 64, 64, channels)))
    params = variables.get("params", {})
    if zeros:
        params = jax.tree.map(np.zeros_like, params)

    def predict(params, images):
        outputs = network.apply({"params": params}, images)
        return outputs if isinstance(outputs, dict) else {"map": outputs}

    return receptive_margin(predict, params, stride=stride, channels=channels)


class MeanOfImage(nn.Module):
    """Subtracts the mean of the image, which is not `GroupNorm`."""

    def __call__(self, images):
        return images - images.mean((1, 2), keepdims=True)


class TwoOutputs(nn.Module):
    """Convolutions with a margin of 3 for one output, a pixel of the input for the other."""

    @nn.compact
    def __call__(self, images):
        return {"first": images[..., 0], "second": Convolutions(3, 4, name="convolutions")(images)}


@pytest.mark.parametrize(
    ("network", "stride", "expected"),
    [
        (Convolutions(8, 4), 1, Margin(8, True)),
        (nn.Conv(2, (7, 7)), 1, Margin(3, True)),
        (nn.Conv(2, (3, 3), kernel_dilation=5), 1, Margin(5, True)),
        (nn.Sequential(2 * [nn.Conv(2, (15, 15), kernel_dilation=40)]), 1, Margin(560, True)),
        (TwoOutputs(), 1, Margin(3, True)),
        (MeanOfImage(), 1, Margin(0, False)),
    ],
    ids=["eight 3 x 3", "7 x 7", "dilated", "longer than the first strip", "the larger of two", "unlimited"],
)
def test_margins_by_hand(network, stride, expected):
    assert margin_of(network, stride=stride, channels=2) == expected


@pytest.mark.parametrize("norm", ["none", "layer", "weight", "frozen_batch", "group"])
def test_only_group_norm_depends_on_the_full_window(norm):
    # Number of pixels that depend on the other side of the edge: 1 of stride 1, then after each pool and the
    # convolutions that follow 1 and 2 of stride 2, 1 and 3 of stride 4, 2 and 4 of stride 8, 2 and 4 of
    # stride 16. Every stage of the decoder doubles their number and adds two: 10, 22, 46, 94.
    network = create_segmenter("vgg11", classes=2, width=0.05, norm=norm, decoder_norm=norm)
    assert margin_of(network, stride=network.stride) == (94, norm != "group")


@pytest.mark.parametrize(
    ("encoder", "settings", "expected"),
    [
        ("vgg11", {"decoder": "upsample"}, 109),
        ("vgg11", {"output_stride": 4}, 91),
        ("vgg16", {}, 126),
        ("resnet18", {}, 286),
    ],
)
def test_margins_of_networks(encoder, settings, expected):
    # ResNets have the larger margin at the other end, where a stride skips no pixel.
    network = create_segmenter(encoder, classes=2, width=0.02, norm="none", decoder_norm="none", **settings)
    assert margin_of(network, stride=network.stride) == (expected, True)


def test_a_wide_network_has_the_margin_of_a_narrow_one():
    # Winograd's algorithm, which wide convolutions use, would add up to three pixels of each resolution.
    network = create_segmenter("vgg11", classes=2, norm="none", decoder_norm="none")
    assert margin_of(network, stride=16) == (94, True)


def test_the_margin_does_not_depend_on_parameters():
    assert margin_of(Convolutions(3, 4), stride=1, zeros=True) == (3, True)


def test_a_program_without_cpu_uses_its_device(monkeypatch):
    devices = jax.local_devices()[1:2]

    def local_devices(backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return devices

    monkeypatch.setattr(jax, "local_devices", local_devices)
    assert margin_of(Convolutions(3, 4), stride=1) == (3, True)
