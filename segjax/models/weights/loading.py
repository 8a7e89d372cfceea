"""Loads pretrained weights into the parameters of a segmenter or a detector."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError
from segjax.models.weights.file import Preprocessing, Weights, flatten, load, unflatten
from segjax.typing import Params

# Layers of a detector whose shapes depend on the number of classes or anchors.
CLASS_LAYERS = ("box_predictor/logits", "box_predictor/deltas", "mask_head", "rpn/logits", "rpn/deltas")
DETECTOR_STEM = "backbone/encoder/conv/kernel"


def load_encoder(params: Params, path: str | pathlib.Path, *, encoder: str) -> dict[str, Any]:
    """Loads a pretrained encoder and its preprocessing into the parameters of a segmenter.

    segjax scales images to about 0..1. The constant layer `input` of the segmenter converts them to the range
    that the weights expect. If the images have as many channels as the images that the weights were trained
    on, channel 0 is taken for red. Otherwise the first kernel is averaged: for C channels, each gets 1 / C of
    the sum over the pretrained channels, and the mean of their mean and std. An image whose C channels are
    equal then has the features of that grey image.

    Args:
      params: parameters of a segmenter.
      path: file that `save` wrote.
      encoder: the segmenter's encoder, a name in `ENCODERS`. Some encoders have the same parameters, so the
        name is needed.

    Returns:
      `params` with new `encoder` and `input`.

    Raises:
      InputError: if the file has another architecture, norm or width.
    """
    loaded, input_params = _load_encoder(params["encoder"], load(path), path, encoder)
    return {**params, "encoder": loaded, "input": input_params}


def load_detector(
    params: Params, path: str | pathlib.Path, *, backbone: str
) -> tuple[dict[str, Any], list[str]]:
    """Loads a pretrained encoder or detector and its preprocessing into the parameters of a detector.

    Images are treated as in `load_encoder`. A pretrained detector may have other classes or anchors: layers
    that depend on them are loaded only if their shapes match. Parts that the detector lacks, such as an RPN,
    are left out.

    Args:
      params: parameters of a detector.
      path: file that `save` wrote.
      backbone: the detector's backbone, such as "resnet50_fpn".

    Returns:
      The parameters, and the names of the layers that were not loaded.

    Raises:
      InputError: if the file has another architecture or norm; the message names the first parameters that
        do not match.
    """
    weights = load(path)
    encoder = backbone.removesuffix("_fpn")
    if weights.architecture == encoder:
        module = "backbone" if "backbone" in params else "box_features"
        loaded, input_params = _load_encoder(params[module]["encoder"], weights, path, encoder)
        return {**params, module: {**params[module], "encoder": loaded}, "input": input_params}, []
    network = {name: value for name, value in params.items() if name != "input"}
    expected = flatten(network)
    arrays = flatten({part: value for part, value in weights.params.items() if part in network})
    if DETECTOR_STEM not in arrays or DETECTOR_STEM not in expected:
        raise InputError(f"{path}: holds the weights of {weights.architecture}, not of {backbone}")
    input_params = _adapt_stem(arrays, expected, DETECTOR_STEM, weights.preprocessing)
    present, required = (
        {name: value for name, value in flat.items() if _layer(name) not in CLASS_LAYERS}
        for flat in (arrays, expected)
    )
    check_match(present, required, f"{path}, for {backbone} with norm={weights.norm!r}")
    loaded, missing = load_matching(network, unflatten(arrays), path)
    return loaded | {"input": input_params}, missing


def load_matching(params: Params, checkpoint: Params, source: object) -> tuple[dict[str, Any], list[str]]:
    """Loads every layer whose parameters all have the same names and shapes in the checkpoint.

    A layer that has further parameters in the checkpoint is left out: a batch norm has the scale and the bias
    of a group norm, but also statistics.

    Args:
      params: parameters of the network.
      checkpoint: parameters of another network.
      source: name of the checkpoint, for messages.

    Returns:
      The parameters, and the names of the layers that were not loaded.

    Raises:
      InputError: if no layer matches.
    """
    expected, arrays = flatten(params), flatten(checkpoint)
    missing = {
        _layer(name)
        for name in {*expected, *arrays}
        if name not in expected or name not in arrays or arrays[name].shape != expected[name].shape
    }
    layers = {_layer(name) for name in expected}
    if missing >= layers:
        raise InputError(
            f"{source}: no layer matches the network: use weights of the same architecture, width and norm"
        )
    loaded = {
        name: jnp.asarray(value if _layer(name) in missing else np.asarray(arrays[name]))
        for name, value in expected.items()
    }
    return unflatten(loaded), sorted(missing & layers)


def expected_params(model: nn.Module, *, channels: int = 3) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a model's parameters, see `flatten`."""
    image = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    return flatten(jax.eval_shape(model.init, jax.random.key(0), image)["params"])


def check_match(arrays: Mapping[str, Any], expected: Mapping[str, Any], source: object) -> None:
    """Raises InputError unless names and shapes are the same; the message names the first that differ."""
    check_names(arrays, expected, source)
    for name, value in expected.items():
        if arrays[name].shape != value.shape:
            raise InputError(
                f"{source}: {name} is {arrays[name].shape} in the weights and {value.shape} in the model: use"
                " weights of this architecture and width"
            )


def check_names(names: Collection[str], expected: Collection[str], source: object) -> None:
    """Raises InputError unless the names are the same; the message lists missing and unexpected ones."""
    missing = [name for name in expected if name not in names]
    unexpected = [name for name in names if name not in expected]
    if missing or unexpected:
        lists = [", ".join(part[:3]) or "none" for part in (missing, unexpected)]
        raise InputError(
            f"{source}: missing parameters: {lists[0]}; unexpected parameters: {lists[1]}; use weights of"
            " this architecture"
        )


def _load_encoder(
    params: Params, weights: Weights, path: str | pathlib.Path, encoder: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the parameters of an encoder and of the layer `input`."""
    if weights.architecture != encoder:
        raise InputError(f"{path}: holds the weights of {weights.architecture}, not of encoder {encoder}")
    expected, arrays = flatten(params), flatten(weights.params)
    source = f"{path}, for norm={weights.norm!r} and width=1"
    check_names(arrays, expected, source)
    stem = "conv/kernel" if "conv/kernel" in expected else "stage1/conv1/kernel"
    input_params = _adapt_stem(arrays, expected, stem, weights.preprocessing)
    check_match(arrays, expected, source)
    return unflatten({name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()}), input_params


def _adapt_stem(
    arrays: dict[str, Any], expected: Mapping[str, Any], stem: str, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Adapts the first kernel, `arrays[stem]`, to the channels of the images; returns the layer `input`.

    See `load_encoder`. The layer computes `(image - mean) / std`, in the range of segjax's images.
    """
    kernel, channels = arrays[stem], expected[stem].shape[2]
    mean = np.array(preprocessing.mean) / preprocessing.scale
    std = np.array(preprocessing.std) / preprocessing.scale
    if preprocessing.order == "bgr":
        kernel, mean, std = kernel[:, :, ::-1], mean[::-1], std[::-1]
    if kernel.shape[2] != channels:
        kernel = np.repeat(kernel.sum(2, keepdims=True) / channels, channels, axis=2)
        mean, std = np.full(channels, mean.mean()), np.full(channels, std.mean())
    arrays[stem] = kernel
    affine = {"scale": 1 / std, "bias": np.zeros_like(mean), "mean": mean, "var": np.ones_like(mean)}
    return {name: jnp.asarray(value, jnp.float32) for name, value in affine.items()}


def _layer(name: str) -> str:
    return name.rpartition("/")[0]
