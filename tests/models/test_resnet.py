import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.norms import FrozenBatchNorm, GroupNorm, WeightStandardization, frozen
from segjax.models.resnet import STRIDES, VARIANTS, BasicBlock, Bottleneck, ResNet
from tests.models.quick import jit, random_variables


def shapes(module, height=37, width=50):
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    features, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    return features, variables["params"]


@pytest.mark.parametrize(
    ("name", "published"),
    # torchvision's without the dense layer: 11,689,512 - 513,000; 25,557,032 - 2,049,000; and so on.
    [
        ("resnet18", 11_176_512),
        ("resnet34", 21_284_672),
        ("resnet50", 23_508_032),
        ("resnet101", 42_500_160),
        ("resnet50_v1", 23_508_032),
    ],
)
def test_has_the_parameters_of_torchvision(name, published):
    params = shapes(ResNet(**VARIANTS[name], norm=FrozenBatchNorm))[1]
    sizes = jax.tree.map(lambda leaf: leaf.size, params)
    constants = jax.tree.map(lambda size, constant: size * constant, sizes, frozen(params))
    # Of a frozen norm's four vectors two, mean and var, are statistics and no parameters.
    statistics = sum(jax.tree.leaves(constants)) // 2
    assert sum(jax.tree.leaves(sizes)) - statistics == published


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("height", "width"), [(37, 50), (64, 96), (1, 1)])
def test_features_have_the_documented_strides(name, height, width):
    features, _ = shapes(ResNet(**VARIANTS[name], width=0.25, norm=GroupNorm), height, width)
    expansion = VARIANTS[name]["block"].expansion
    channels = [16, *(c * expansion for c in (16, 32, 64, 128))]
    assert [f.shape for f in features] == [
        (2, -(-height // s), -(-width // s), c) for s, c in zip(STRIDES, channels, strict=True)
    ]


def test_standardised_residual_branches_start_at_zero_so_that_activations_do_not_grow_with_depth():
    encoder = ResNet(**VARIANTS["resnet18"], width=0.25, norm=WeightStandardization)
    image = jnp.asarray(np.random.default_rng(0).standard_normal((1, 128, 128, 3)), jnp.float32)
    _, *features = jit(encoder.apply)(jit(encoder.init)(jax.random.key(0), image), image)
    deviations = [float(feature.std()) for feature in features]
    assert max(deviations) < 3 * min(deviations)


def test_strides_keep_even_pixels_as_pytorch_does():
    # A kernel that is 1 in its centre picks the pixels 0, 2, 4; with SAME it would pick 1, 3, 5.
    block = BasicBlock(channels=1, stride=2)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    zero = jnp.zeros(1)
    params = {
        "conv1": {"kernel": kernel, "bias": zero},
        "conv2": {"kernel": kernel, "bias": zero},
        "conv_shortcut": {"kernel": jnp.zeros((1, 1, 1, 1)), "bias": zero},
    }
    x = jnp.arange(36.0).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(block.apply({"params": params}, x), x[:, ::2, ::2])


def test_forms_differ_in_the_convolution_that_strides():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 6, 4)), jnp.float32)
    torch, keras = (Bottleneck(channels=4, stride=2, stride_first=first, norm=GroupNorm) for first in (0, 1))
    variables = random_variables(torch, x)
    assert jax.tree.structure(variables) == jax.tree.structure(
        jax.eval_shape(keras.init, jax.random.key(0), x)
    )
    y = jit(torch.apply)(variables, x), jit(keras.apply)(variables, x)
    assert y[0].shape == y[1].shape == (1, 3, 3, 16)
    assert not np.allclose(*y)


def test_without_a_norm_a_block_begins_as_the_identity():
    # So that depth does not inflate the activations.
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 4, 4, 3)), jnp.float32)
    block = BasicBlock(channels=3)
    output, variables = jit(block.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(output, x)
    assert (variables["params"]["conv1"]["kernel"] != 0).any()


@pytest.mark.peers
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [(64, 96), (65, 95)])
def test_agrees_with_torchvision_stage_by_stage(name, size, tmp_path):
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
    torch.save({"state_dict": torch_model.state_dict(), "epoch": 3}, tmp_path / "resnet.pth")
    weights = convert(read_checkpoint(tmp_path / "resnet.pth"), name)
    module = ResNet(**VARIANTS[name], norm=FrozenBatchNorm)

    images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    features = jit(module.apply)({"params": weights.params}, images)
    with torch.no_grad():
        x = torch_model.relu(
            torch_model.bn1(torch_model.conv1(torch.from_numpy(images.transpose(0, 3, 1, 2))))
        )
        expected = [x]
        x = torch_model.maxpool(x)
        for stage in (torch_model.layer1, torch_model.layer2, torch_model.layer3, torch_model.layer4):
            x = stage(x)
            expected.append(x)
    for actual, known in zip(features, (e.numpy().transpose(0, 2, 3, 1) for e in expected), strict=True):
        np.testing.assert_allclose(actual, known, rtol=1e-4, atol=1e-4 * np.abs(known).max())
