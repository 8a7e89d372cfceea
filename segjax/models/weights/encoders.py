"""Converts encoder checkpoints of torchvision, timm and Keras.

The networks of these libraries are the same, except for Keras's ResNets. There, the first convolution of a
block has the stride (`resnet50_v1`), convolutions have a bias before each batch norm, and epsilon differs.
Bias and epsilon are folded into mean and variance, which is exact, so one frozen batch norm suits all.
"""

import re

import jax
import numpy as np

from segjax.errors import InputError, choose
from segjax.models import resnet, vgg
from segjax.models.segmenters import ENCODERS, create_encoder
from segjax.models.weights.file import PREPROCESSING, Preprocessing, Weights, unflatten
from segjax.models.weights.loading import check_match, expected_params
from segjax.models.weights.readers import Tensors

# Layer of a checkpoint -> name of a parameter in segjax -> array, kernels as [h, w, in, out].
Layers = dict[str, Tensors]
# Layer in segjax -> names of the layer in checkpoints.
Names = dict[str, tuple[str, ...]]

TORCH_STEM = re.compile(r"(.*\.)?(features\.0|conv1)\.weight")
TORCH_ROLES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
# Names in Keras's HDF5 files, in those of Keras 1 and in ONNX graphs, where a kernel is [out, in, h, w].
KERAS_NAMES = {
    "kernel": ("kernel", "W", "ReadVariableOp"),
    "bias": ("bias", "b", "beta", "Squeeze"),
    "scale": ("gamma",),
    "mean": ("moving_mean", "running_mean"),
    "var": ("moving_variance", "running_std"),  # Keras 1 calls the variance std
}
KERAS_ROLES = {name: role for role, names in KERAS_NAMES.items() for name in names}
EPSILON = 1e-5  # of torch's batch norm and of `FrozenBatchNorm`
# Epsilon of the norms that Keras's ResNets call `..._bn`, and of those with the older names `bn...`.
KERAS_EPSILON, OLD_KERAS_EPSILON = 1.001e-5, 1e-3
# If a layer with such a name is unused, the checkpoint is of a larger architecture.
ENCODER_LAYER = re.compile(r"features\.\d+|layer\d+\..*|(block|conv|res|bn)\d.*")
# Convolutions of a residual block: suffix in segjax, names in PyTorch, branch in Keras before 2.2.5.
RESIDUAL_BLOCK = (
    ("_shortcut", "downsample.0", "downsample.1", "1"),
    ("1", "conv1", "bn1", "2a"),
    ("2", "conv2", "bn2", "2b"),
    ("3", "conv3", "bn3", "2c"),
)


def convert(tensors: Tensors, architecture: str, *, preprocessing: Preprocessing | None = None) -> Weights:
    """Converts an encoder checkpoint of torchvision, timm or Keras.

    Args:
      tensors: from `readers.read_checkpoint`; the tensors of a classifier are ignored.
      architecture: a name in `ENCODERS`.
      preprocessing: preprocessing of the images that the checkpoint was trained on. By default that of
        torchvision's or of Keras's weights, depending on the names of the tensors.

    Returns:
      The weights, with `frozen_batch` norms if the checkpoint has batch norms.

    Raises:
      InputError: if the checkpoint has another architecture; the message names the first layer that does not
        match.
    """
    choose(ENCODERS, "architecture", architecture)
    from_torch = any(TORCH_STEM.fullmatch(name) for name in tensors)
    check_stride(architecture, from_torch)
    layers = torch_layers(tensors) if from_torch else keras_layers(tensors)
    has_norm = any("var" in layers.get(name, {}) for name in ("features.1", "bn1", "conv1_bn", "bn_conv1"))
    names = vgg_names(architecture, has_norm) if architecture in vgg.VARIANTS else resnet_names(architecture)

    encoder = create_encoder(architecture, norm="frozen_batch" if has_norm else "none")
    stem = next((layers[name] for name in next(iter(names.values())) if name in layers), {})
    channels = stem["kernel"].shape[2] if "kernel" in stem else 3
    expected = expected_params(encoder, channels=channels)
    expected_layers = {name.rpartition("/")[0] for name in expected}
    names = {layer: options for layer, options in names.items() if layer in expected_layers}

    params = _select(layers, names, architecture)
    _fold_biases(params, expected)
    check_match(params, expected, f"a checkpoint of {architecture}")
    preprocessing = preprocessing or PREPROCESSING["torchvision" if from_torch else "caffe"]
    if len(preprocessing.mean) != channels:
        raise InputError(
            f"the checkpoint needs images of {channels} channels, but its preprocessing has"
            f" {len(preprocessing.mean)}: give a preprocessing for {channels} channels"
        )
    return Weights(architecture, unflatten({name: params[name] for name in expected}), preprocessing)


def check_stride(architecture: str, from_torch: bool) -> None:
    """Raises InputError if the checkpoint has the stride of the other ResNet variant, with the same names."""
    v1 = architecture.endswith("_v1")
    other = architecture.removesuffix("_v1") if v1 else f"{architecture}_v1"
    if v1 == from_torch and other in ENCODERS:
        layer = "the 3 x 3 convolutions" if from_torch else "the first convolution of a block"
        library = "PyTorch" if from_torch else "Keras"
        raise InputError(f"{library}'s weights stride in {layer}: convert them as {other}")


def torch_layers(tensors: Tensors) -> Layers:
    """Returns the layers of a state dict, without the prefix that a larger model adds to the encoder."""
    stems = (match for match in map(TORCH_STEM.fullmatch, tensors) if match)
    # `layer1.0.conv1` ends like the stem, but is longer.
    prefix = min((match[1] or "" for match in stems), key=len)
    layers: Layers = {}
    for name, value in tensors.items():
        layer, _, role = name.removeprefix(prefix).rpartition(".")
        if name.startswith(prefix) and role in TORCH_ROLES:
            is_kernel = value.ndim == 4
            value = np.asarray(value.transpose(2, 3, 1, 0) if is_kernel else value, np.float32)
            layers.setdefault(layer, {})["kernel" if is_kernel else TORCH_ROLES[role]] = value
    return layers


def keras_layers(tensors: Tensors) -> Layers:
    """Returns the layers of an HDF5 file or of the initialisers of an ONNX graph, with torch's epsilon."""
    layers: Layers = {}
    for name, value in tensors.items():
        *path, leaf = name.removesuffix(":0").split("/")
        if any(part.startswith("optimizer") for part in path):
            continue
        if leaf == "ReadVariableOp" and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        for part in path:
            # Keras numbers layers with the same name in one process.
            layer = re.sub(r"_\d+$", "", part)
            role = KERAS_ROLES.get(re.sub(r"_\d+$", "", leaf.removeprefix(f"{part}_")))
            if role is None:
                continue
            array = value.astype(np.float32)
            if role == "var":
                epsilon = OLD_KERAS_EPSILON if layer.startswith("bn") else KERAS_EPSILON
                array = array + np.float32(epsilon - EPSILON)
            layers.setdefault(layer, {})[role] = array
    return layers


def vgg_names(architecture: str, has_norm: bool) -> Names:
    """Returns the names of each layer of a VGG in PyTorch, which counts ReLUs and pools, and in Keras."""
    names: Names = {}
    index = 0
    for stage, count in enumerate(vgg.VARIANTS[architecture], start=1):
        for number in range(1, count + 1):
            names[f"stage{stage}/conv{number}"] = (f"features.{index}", f"block{stage}_conv{number}")
            names[f"stage{stage}/norm{number}"] = (f"features.{index + 1}",)
            index += 3 if has_norm else 2
        index += 1
    return names


def resnet_names(architecture: str) -> Names:
    """Returns the names of each layer of a ResNet in PyTorch, Keras, and Keras before 2.2.5."""
    names: Names = {"conv": ("conv1", "conv1_conv"), "norm": ("bn1", "conv1_bn", "bn_conv1")}
    for stage, count in enumerate(resnet.VARIANTS[architecture]["blocks"], start=1):
        for index in range(count):
            block, torch = f"stage{stage}/block{index + 1}", f"layer{stage}.{index}"
            keras, old = f"conv{stage + 1}_block{index + 1}", f"{stage + 1}{chr(ord('a') + index)}_branch"
            for i, (suffix, conv, norm, branch) in enumerate(RESIDUAL_BLOCK):
                names[f"{block}/conv{suffix}"] = f"{torch}.{conv}", f"{keras}_{i}_conv", f"res{old}{branch}"
                names[f"{block}/norm{suffix}"] = f"{torch}.{norm}", f"{keras}_{i}_bn", f"bn{old}{branch}"
    return names


def _select(layers: Layers, names: Names, architecture: str) -> Tensors:
    """Returns the arrays of an encoder by their names in segjax."""
    params: Tensors = {}
    used = set()
    for layer, options in names.items():
        name = next((option for option in options if option in layers), None)
        if name is None:
            raise InputError(
                f"the checkpoint is not a {architecture}: missing layer {' or '.join(options)}; give the"
                " --architecture that it has"
            )
        used.add(name)
        params |= {f"{layer}/{role}": value for role, value in layers[name].items()}
    unexpected = [name for name in layers if name not in used and ENCODER_LAYER.fullmatch(name)]
    if unexpected:
        raise InputError(
            f"the checkpoint is not a {architecture}: unexpected layer {unexpected[0]}; give the"
            " --architecture that it has"
        )
    return params


def _fold_biases(params: Tensors, expected: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Subtracts the bias of a convolution from the mean of its norm, where the encoder has no bias."""
    for name in [name for name in params if name not in expected and name.endswith("/bias")]:
        mean = re.sub(r"conv(\w*)/bias$", r"norm\1/mean", name)
        if mean in expected and mean in params:
            params[mean] = params[mean] - params.pop(name)
