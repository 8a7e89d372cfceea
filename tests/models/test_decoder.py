import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.decoder import Decoder, default_channels
from segjax.models.layers import Interpolation, TransposedConvolution
from segjax.models.norms import GroupNorm
from tests.models.quick import jit


def features(strides, height, width, batch=1):
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.standard_normal((batch, -(-height // s), -(-width // s), 4 * (i + 1))), jnp.float32)
        for i, s in enumerate(strides)
    ]


def decoded(decoder, height, width):
    inputs = features(decoder.strides, height, width)

    def run(key):
        return decoder.init_with_output(key, inputs, (height, width))

    return jax.eval_shape(run, jax.random.key(0))


@pytest.mark.parametrize("strides", [(1, 2, 4), (2, 4, 8, 16)])
@pytest.mark.parametrize(("height", "width"), [(37, 50), (16, 16), (1, 3)])
@pytest.mark.parametrize("double", [TransposedConvolution, Interpolation])
def test_returns_to_the_size_of_the_image(strides, height, width, double):
    output, _ = decoded(Decoder(strides, double=double, count=1), height, width)
    assert output.shape[:3] == (1, height, width)


def test_channels_are_half_the_encoders():
    vgg, resnet = (64, 128, 256, 512, 512), (64, 256, 512, 1024, 2048)
    assert default_channels(vgg, (1, 2, 4, 8, 16)) == [256, 128, 64, 32]
    assert default_channels(resnet, (2, 4, 8, 16, 32)) == [512, 256, 128, 32, 16]


def kernels(params):
    paths = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in paths if leaf.ndim == 4}


def test_settings_make_a_unet_a_segnet_and_an_fcn():
    unet = kernels(decoded(Decoder((1, 2), channels=(5,)), 8, 8)[1])
    segnet = kernels(decoded(Decoder((1, 2), channels=(5,), skips=False), 8, 8)[1])
    fcn = kernels(decoded(Decoder((1, 2), channels=(5,), merge="add", count=0), 8, 8)[1])
    double, first = (
        "['params']['stage1']['double']['kernel']",
        "['params']['stage1']['convolutions']['conv1']",
    )
    assert unet[f"{first}['kernel']"] == (3, 3, 4 + 5, 5)
    assert segnet[f"{first}['kernel']"] == (3, 3, 5, 5)
    assert fcn == {double: (2, 2, 8, 5), "['params']['stage1']['skip']['kernel']": (1, 1, 4, 5)}
    assert len(unet) == len(segnet) == 3


@pytest.mark.parametrize("skips", [True, False])
def test_skips_are_used_only_if_wanted(skips):
    decoder = Decoder((2, 4), skips=skips, count=1, norm=GroupNorm)
    inputs = features((2, 4), 9, 9)
    variables = jit(lambda key: decoder.init(key, inputs, (9, 9)))(jax.random.key(0))

    def output_sum(inputs):
        return jnp.square(decoder.apply(variables, inputs, (9, 9))).sum()

    fine, coarse = jit(jax.grad(output_sum))(inputs)
    assert bool((fine != 0).any()) == skips
    assert (coarse != 0).any()


def test_adds_what_doubling_and_skip_give():
    decoder = Decoder((1, 2), channels=(3,), merge="add", count=0)
    inputs = features((1, 2), 3, 5)
    variables = jit(lambda key: decoder.init(key, inputs, (3, 5)))(jax.random.key(0))
    stage = variables["params"]["stage1"]
    doubled = TransposedConvolution(3).apply({"params": stage["double"]}, inputs[1])[:, :3, :5]
    expected = doubled + jnp.einsum("bhwc,co->bhwo", inputs[0], stage["skip"]["kernel"][0, 0])
    np.testing.assert_allclose(decoder.apply(variables, inputs, (3, 5)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [(1, 2, 4), (2, 4, 8, 16)])
@pytest.mark.parametrize(("height", "width"), [(37, 50), (16, 16), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_returns_to_the_output_stride(strides, height, width, stride):
    output, variables = decoded(Decoder(strides, count=1, output_stride=stride), height, width)
    assert output.shape[:3] == (1, -(-height // stride), -(-width // stride))
    stages = len(strides) - 1 + (strides[0] > 1) - (stride.bit_length() - 1)
    assert list(variables.get("params", {})) == [f"stage{index + 1}" for index in range(stages)]


@pytest.mark.parametrize("stride", [2, 4])
def test_the_first_stages_do_not_depend_on_the_output_stride(stride):
    inputs = features((1, 2, 4, 8), 19, 22)
    outputs = {}
    for output_stride in (1, stride):
        decoder = Decoder((1, 2, 4, 8), count=1, output_stride=output_stride)
        result, variables = jit(lambda d=decoder: d.init_with_output(jax.random.key(0), inputs, (19, 22)))()
        outputs[output_stride] = result
        stages = variables["params"]
        if output_stride == 1:
            all_stages = stages
    for name, stage in stages.items():
        assert jax.tree.map(jnp.shape, stage) == jax.tree.map(jnp.shape, all_stages[name])
    # With the same parameters the result is that of an inner stage.
    few = {"params": {name: all_stages[name] for name in stages}}
    decoder = Decoder((1, 2, 4, 8), count=1, output_stride=1)
    _, inner = decoder.apply({"params": all_stages}, inputs, (19, 22), capture_intermediates=True)
    last = list(stages)[-1]
    expected = inner["intermediates"][last]["__call__"][0]
    actual = Decoder((1, 2, 4, 8), count=1, output_stride=stride).apply(few, inputs, (19, 22))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
