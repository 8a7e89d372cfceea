"""From the names and layouts of torchvision, timm and Keras to those of our encoders.

The files agree on what is computed but for three things. Keras's ResNets stride in the first convolution of a
block (our `resnet50_v1`), have a bias before each batch norm, and another epsilon in it. Bias and epsilon
are folded into mean and variance, which is exact, so that one frozen batch norm serves all.
"""

import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError, choose
from segjax.models import resnet, vgg
from segjax.models.segmenters import ENCODERS, create_encoder
from segjax.models.weights.loading import PREPROCESSING, Preprocessing, Weights, check_fit, flatten
from segjax.models.weights.readers import Tensors

# The arrays of each layer of the checkpoint under our names for them, kernels as [h, w, in, out].
Layers = dict[str, Tensors]

TORCH_STEM = re.compile(r"(.*\.)?(features\.0|conv1)\.weight")
TORCH_ROLES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
KERAS_ROLES = {
    "kernel": "kernel",
    "W": "kernel",
    "bias": "bias",
    "b": "bias",
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "running_mean": "mean",
    "moving_variance": "var",
    # Keras 1 wrote the variance under this name.
    "running_std": "var",
    # In ONNX graphs, where a kernel is [out, in, h, w].
    "ReadVariableOp": "kernel",
    "Squeeze": "bias",
}
EPSILON = 1e-5  # of torch's batch norm and of our frozen one
# Of Keras's: written in its ResNets since they call a norm `..._bn`, before that the default.
KERAS_EPSILON, OLD_KERAS_EPSILON = 1.001e-5, 1e-3
# A layer with such a name that stays unused is of a larger architecture than the one asked for.
OF_AN_ENCODER = re.compile(r"features\.\d+|layer\d+\..*|(block|conv|res|bn)\d.*")


def convert(tensors: Tensors, architecture: str, *, preprocessing: Preprocessing | None = None) -> Weights:
    """Makes the weights of an encoder from a checkpoint of torchvision, timm or Keras.

    Args:
      tensors: as `readers.read_checkpoint` returns them; a classifier among them is left out.
      architecture: a name in `ENCODERS`.
      preprocessing: of the images that the weights were trained with; by default what torchvision's or
        Keras's weights want, whichever the names belong to.

    Returns:
      The weights, with `frozen_batch` norms if the checkpoint has batch norms.

    Raises:
      InputError: if the checkpoint is not of this architecture; names the first layer that does not fit.
    """
    choose(ENCODERS, "architecture", architecture)
    from_torch = any(TORCH_STEM.fullmatch(name) for name in tensors)
    check_stride(architecture, from_torch)
    layers = torch_layers(tensors) if from_torch else keras_layers(tensors)
    normed = any("var" in layers.get(name, {}) for name in ("features.1", "bn1", "conv1_bn", "bn_conv1"))
    names = vgg_names(architecture, normed) if architecture in vgg.VARIANTS else resnet_names(architecture)

    encoder = create_encoder(architecture, norm="frozen_batch" if normed else "none")
    stem = next((layers[name] for name in next(iter(names.values())) if name in layers), {})
    channels = stem["kernel"].shape[2] if "kernel" in stem else 3
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    expected = flatten(jax.eval_shape(encoder.init, jax.random.key(0), image)["params"])

    found: Tensors = {}
    used = set()
    wanted = {name.rpartition("/")[0] for name in expected}
    for ours in (name for name in names if name in wanted):
        name = next((name for name in names[ours] if name in layers), None)
        if name is None:
            raise InputError(
                f"the checkpoint is not a {architecture}: it has no layer {' or '.join(names[ours])}"
            )
        used.add(name)
        found |= {f"{ours}/{role}": value for role, value in layers[name].items()}
        if "var" in layers[name] and not from_torch:
            epsilon = OLD_KERAS_EPSILON if name.startswith("bn") else KERAS_EPSILON
            found[f"{ours}/var"] = found[f"{ours}/var"] + np.float32(epsilon - EPSILON)
    unused = [name for name in layers if name not in used and OF_AN_ENCODER.fullmatch(name)]
    if unused:
        raise InputError(f"the checkpoint is not a {architecture}: it has a layer {unused[0]} too many")
    fold_biases(found, expected)
    check_fit(found, expected, f"a checkpoint of {architecture}")
    preprocessing = preprocessing or PREPROCESSING["torchvision" if from_torch else "caffe"]
    if len(preprocessing.mean) != channels:
        raise InputError(
            f"the checkpoint is for images of {channels} channels, the preprocessing for"
            f" {len(preprocessing.mean)}"
        )
    params = flax.traverse_util.unflatten_dict({name: found[name] for name in expected}, sep="/")
    return Weights(architecture, params, preprocessing)


def check_stride(architecture: str, from_torch: bool) -> None:
    """Refuses the form of a ResNet that has the right names and the wrong stride."""
    v1 = architecture.endswith("_v1")
    if from_torch and v1:
        other = architecture.removesuffix("_v1")
        raise InputError(f"PyTorch's weights stride in the 3 x 3 convolutions: convert them as {other}")
    if not from_torch and not v1 and f"{architecture}_v1" in ENCODERS:
        raise InputError(
            f"Keras's weights stride in the first convolution of a block: convert them as {architecture}_v1"
        )


def fold_biases(found: Tensors, expected: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Subtracts from a norm's mean the bias of the convolution before it, where ours has none."""
    for name in [name for name in found if name not in expected and name.endswith("/bias")]:
        mean = re.sub(r"conv(\w*)/bias$", r"norm\1/mean", name)
        if mean in expected and mean in found:
            found[mean] = found[mean] - found.pop(name)


def torch_layers(tensors: Tensors) -> Layers:
    """The layers of a state dict, without the prefix that a larger model gave the encoder."""
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
    """The layers of an HDF5 file or of the initialisers of an ONNX graph."""
    layers: Layers = {}
    for name, value in tensors.items():
        *path, leaf = name.removesuffix(":0").split("/")
        if any(part.startswith("optimizer") for part in path):
            continue
        if leaf == "ReadVariableOp" and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        for part in path:
            # Keras numbers what was made before in the same process.
            layer = re.sub(r"_\d+$", "", part)
            role = KERAS_ROLES.get(re.sub(r"_\d+$", "", leaf.removeprefix(f"{part}_")))
            if role is not None:
                layers.setdefault(layer, {})[role] = value.astype(np.float32)
    return layers


def vgg_names(architecture: str, normed: bool) -> dict[str, tuple[str, ...]]:
    """What others call each layer of a VGG; PyTorch counts the ReLUs and pools between them."""
    names: dict[str, tuple[str, ...]] = {}
    index = 0
    for stage, count in enumerate(vgg.VARIANTS[architecture], start=1):
        for number in range(1, count + 1):
            names[f"stage{stage}/conv{number}"] = (f"features.{index}", f"block{stage}_conv{number}")
            names[f"stage{stage}/norm{number}"] = (f"features.{index + 1}",)
            index += 3 if normed else 2
        index += 1
    return names


def resnet_names(architecture: str) -> dict[str, tuple[str, ...]]:
    """What others call each layer of a ResNet: PyTorch, Keras, and Keras before 2.2.5."""
    names: dict[str, tuple[str, ...]] = {
        "conv": ("conv1", "conv1_conv"),
        "norm": ("bn1", "conv1_bn", "bn_conv1"),
    }
    for stage, count in enumerate(resnet.VARIANTS[architecture]["blocks"], start=1):
        for block in range(1, count + 1):
            ours, torch = f"stage{stage}/block{block}", f"layer{stage}.{block - 1}"
            keras, old = f"conv{stage + 1}_block{block}", f"{stage + 1}{chr(ord('a') + block - 1)}_branch"
            rows = [("_shortcut", "downsample.0", "downsample.1", 0, "1")]
            rows += [(f"{n}", f"conv{n}", f"bn{n}", n, f"2{'abc'[n - 1]}") for n in (1, 2, 3)]
            for suffix, conv, norm, number, branch in rows:
                names[f"{ours}/conv{suffix}"] = (
                    f"{torch}.{conv}",
                    f"{keras}_{number}_conv",
                    f"res{old}{branch}",
                )
                names[f"{ours}/norm{suffix}"] = (
                    f"{torch}.{norm}",
                    f"{keras}_{number}_bn",
                    f"bn{old}{branch}",
                )
    return names
