import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.norms import FrozenBatchNorm
from segjax.models.vgg import CHANNELS, STRIDES, VARIANTS, VGG
from tests.models.quick import jit, random_variables


def shapes(module, height=37, width=50, channels=3):
    image = jax.ShapeDtypeStruct((2, height, width, channels), jnp.float32)
    features, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    return features, variables["params"]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "published"),
    # Simonyan and Zisserman's networks without their three dense layers, as counted in torchvision.
    [("vgg11", 9_220_480), ("vgg13", 9_404_992), ("vgg16", 14_714_688), ("vgg19", 20_024_384)],
)
def test_has_the_parameters_of_the_paper(name, published):
    assert count(shapes(VGG(VARIANTS[name]))[1]) == published


def test_frozen_statistics_come_on_top():
    # vgg16_bn: a scale and a bias for each of 4224 channels, and as many statistics.
    params = shapes(VGG(norm=FrozenBatchNorm))[1]
    assert count(params) == 14_714_688 + 4 * 4224


@pytest.mark.parametrize(("height", "width"), [(37, 50), (64, 32), (1, 1)])
def test_features_have_the_documented_strides(height, width):
    features, _ = shapes(VGG(width=0.5), height, width)
    assert [f.shape for f in features] == [
        (2, -(-height // s), -(-width // s), c // 2) for s, c in zip(STRIDES, CHANNELS, strict=True)
    ]


def test_a_width_that_leaves_no_channel_leaves_one():
    assert [f.shape[-1] for f in shapes(VGG(width=0.001))[0]] == [1] * 5


def test_stages_are_convolutions_with_relus():
    module = VGG(convolutions=(1, 1, 1, 1, 1), width=1 / 64)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 1)), jnp.float32)
    variables = random_variables(module, images)
    features = jit(module.apply)(variables, images)
    stage = variables["params"]["stage1"]["conv1"]
    padded = np.pad(images[0, :, :, 0], 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    expected = np.maximum((windows * np.asarray(stage["kernel"])[:, :, 0, 0]).sum((2, 3)), 0)
    np.testing.assert_allclose(features[0][0, :, :, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_agrees_with_torchvision_stage_by_stage(name, tmp_path):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    models = pytest.importorskip("torchvision.models", reason="the peers extra is not installed")
    from segjax.models.weights.encoders import convert
    from segjax.models.weights.readers import read_checkpoint

    torch.manual_seed(0)
    torch_model = getattr(models, name)(weights=None).eval()
    for module in torch_model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.running_mean, -0.1)):
                torch.nn.init.uniform_(tensor, low, low + 0.3)
    torch.save(torch_model.state_dict(), tmp_path / "vgg16.pth")
    weights = convert(read_checkpoint(tmp_path / "vgg16.pth"), "vgg16")
    module = VGG(norm=functools.partial(FrozenBatchNorm) if weights.norm == "frozen_batch" else None)

    images = np.random.default_rng(0).standard_normal((2, 64, 96, 3)).astype(np.float32)
    features = jit(module.apply)({"params": weights.params}, images)
    x, expected = torch.from_numpy(images.transpose(0, 3, 1, 2)), []
    with torch.no_grad():
        for layer in torch_model.features:
            if isinstance(layer, torch.nn.MaxPool2d):
                expected.append(x.numpy().transpose(0, 2, 3, 1))
            x = layer(x)
    assert len(features) == len(expected) == 5
    for actual, known in zip(features, expected, strict=True):
        np.testing.assert_allclose(actual, known, rtol=1e-4, atol=1e-4 * np.abs(known).max())
