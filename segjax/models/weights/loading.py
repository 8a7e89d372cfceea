"""Pretrained networks as files: one safetensors file holds the weights and how their images were prepared."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from segjax.errors import InputError
from segjax.typing import Params

# Layers of a detector whose shape depends on what it is for; others must fit.
OF_CLASSES_AND_ANCHORS = ("box_predictor/", "mask_head/kernel", "mask_head/bias", "rpn/logits", "rpn/deltas")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What images went through before the weights saw them: `(image * scale - mean) / std`.

    Attributes:
      order: of the channels of `mean`, `std` and the first kernel: `rgb` or `bgr`.
      scale: of images in 0..1.
      mean: of each channel, in `order`.
      std: likewise.
    """

    order: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise InputError(f"the order of preprocessing must be rgb or bgr, not {self.order!r}")
        if len(self.mean) != len(self.std) or not min(*self.std, self.scale) > 0:
            raise InputError(
                f"preprocessing needs a positive scale and as many positive std as mean, not {self}"
            )


PREPROCESSING = {
    "torchvision": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # The models of the Oxford group and of Kaiming He, and Keras's VGG and ResNet.
    "caffe": Preprocessing(order="bgr", scale=255.0, mean=(103.939, 116.779, 123.68)),
    # The same VGG16 for RGB: torchvision's IMAGENET1K_FEATURES.
    "caffe_rgb": Preprocessing(scale=255.0, mean=(123.0, 117.0, 104.0)),
    # Many of timm's.
    "inception": Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "none": Preprocessing(),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A pretrained encoder or detector.

    Attributes:
      architecture: its name in `segmenters.ENCODERS` or `segjax.models.weights.detectors.DETECTORS`.
      params: its tree of parameters, float32.
      preprocessing: of the images that it was trained with.
    """

    architecture: str
    params: Params
    preprocessing: Preprocessing

    @property
    def norm(self) -> str:
        """The norm that an encoder needs to take these parameters: `frozen_batch` or `none`."""
        return "frozen_batch" if any(name.endswith("/var") for name in flatten(self.params)) else "none"


def save(weights: Weights, path: str | pathlib.Path) -> None:
    """Writes weights as one safetensors file, whole or not at all."""
    path = pathlib.Path(path)
    metadata = {
        "architecture": weights.architecture,
        "preprocessing": json.dumps(dataclasses.asdict(weights.preprocessing)),
    }
    flat = {name: np.ascontiguousarray(value) for name, value in flatten(weights.params).items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(flat, partial, metadata=metadata)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error


def load(path: str | pathlib.Path) -> Weights:
    """Reads what `save` wrote.

    Raises:
      InputError: if the file is not there, is damaged, or was not written by `save`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fields = json.loads(metadata["preprocessing"])
        fields.update(mean=tuple(fields["mean"]), std=tuple(fields["std"]))
        preprocessing = Preprocessing(**fields)
        architecture = metadata["architecture"]
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: these weights were not converted for segjax; scripts/convert_weights.py does it"
        ) from error
    return Weights(architecture, flax.traverse_util.unflatten_dict(flat, sep="/"), preprocessing)


def load_encoder(params: Params, path: str | pathlib.Path, *, encoder: str) -> dict[str, Any]:
    """Puts pretrained weights and their preprocessing into the parameters of a segmenter.

    Images stay in the range of segjax, about 0 to 1 after percentile normalisation, as if they were
    photographs: the constant `input` of the segmenter does the rest. Where the images have as many channels
    as the weights were trained with, channel 0 is red. Where they have another number C, which no colour
    belongs to, each channel gets 1 / C of the sum of the kernel over its channels, and the average of mean
    and std: C channels that show the same are seen as that grey photograph.

    Args:
      params: of a segmenter.
      path: of a file that `save` wrote.
      encoder: the segmenter's, a name in `ENCODERS`; some differ in nothing that parameters show.

    Returns:
      `params` with `encoder` and `input` replaced.

    Raises:
      InputError: if the file holds another architecture, norm or width.
    """
    return _with_encoder(params, load(path), path, encoder)


def _with_encoder(params: Params, weights: Weights, path: str | pathlib.Path, encoder: str) -> dict[str, Any]:
    if weights.architecture != encoder:
        raise InputError(f"{path}: holds the weights of {weights.architecture}, not of encoder {encoder}")
    expected, found = flatten(params["encoder"]), flatten(weights.params)
    stem = next(name for name in ("conv/kernel", "stage1/conv1/kernel") if name in expected)
    if stem not in found:
        raise InputError(f"{path}: a file of {encoder} that lacks {stem}; convert the weights again")
    kernel, mean, std = adapt(found[stem], weights.preprocessing, expected[stem].shape[2])
    found[stem] = kernel
    check_fit(found, expected, f"{path}, for norm={weights.norm!r} and width=1")
    loaded = {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}
    return {
        **params,
        "encoder": flax.traverse_util.unflatten_dict(loaded, sep="/"),
        "input": _input(mean, std),
    }


def load_detector(
    params: Params, path: str | pathlib.Path, *, backbone: str
) -> tuple[dict[str, Any], list[str]]:
    """Puts pretrained weights and their preprocessing into the parameters of a detector.

    Images are treated as in `load_encoder`. A file of a whole detector may have been trained for other
    classes or anchors: then the layers that speak of them stay as they are.

    Args:
      params: of a detector.
      path: of a file that `save` wrote, of an encoder or of a detector.
      backbone: the detector's, such as "resnet50_fpn".

    Returns:
      `params` with all replaced that fits, and the names of the layers that were left as they are.

    Raises:
      InputError: if the file holds another architecture; names the first parameters that do not fit.
    """
    weights = load(path)
    owner = "backbone" if "backbone" in params else "box_features"
    encoder = backbone.removesuffix("_fpn")
    if weights.architecture == encoder:
        part = {"encoder": params[owner]["encoder"], "input": params["input"]}
        within = _with_encoder(part, weights, path, encoder)
        loaded = {**params[owner], "encoder": within["encoder"]}
        return {**params, owner: loaded, "input": within["input"]}, []
    if "backbone" not in weights.params:
        raise InputError(f"{path}: holds the weights of {weights.architecture}, not of {backbone}")
    expected = flatten({name: value for name, value in params.items() if name != "input"})
    found = {name: value for name, value in flatten(weights.params).items() if name in expected}
    stem = "backbone/encoder/conv/kernel"
    if stem not in found or stem not in expected:
        raise InputError(f"{path}: holds the weights of {weights.architecture}, not of {backbone}")
    kernel, mean, std = adapt(found[stem], weights.preprocessing, expected[stem].shape[2])
    found[stem] = kernel
    kept = [
        name
        for name in expected
        if name.startswith(OF_CLASSES_AND_ANCHORS)
        and (name not in found or found[name].shape != expected[name].shape)
    ]
    # The outputs of one head belong together: logits of new classes with boxes of old ones mean nothing.
    kept = [name for name in expected if name.rpartition("/")[0] in {k.rpartition("/")[0] for k in kept}]
    fitting = {name: value for name, value in found.items() if name not in kept}
    check_fit(
        fitting,
        {name: value for name, value in expected.items() if name not in kept},
        f"{path}, for {backbone}",
    )
    merged = {name: jnp.asarray(fitting.get(name, expected[name]), jnp.float32) for name in expected}
    loaded = flax.traverse_util.unflatten_dict(merged, sep="/")
    return loaded | {"input": _input(mean, std)}, kept


def load_matching(params: Params, found: Params, source: object) -> tuple[dict[str, Any], list[str]]:
    """Takes over the parameters of another network wherever it has some of the same name and shape.

    Args:
      params: to be replaced.
      found: of the other network.
      source: of these, for a message.

    Returns:
      The parameters, and the names of the layers that were left as they are, because one of their parameters
      is not there or has another shape.

    Raises:
      InputError: if nothing fits.
    """
    expected, given = flatten(params), flatten(found)
    unfit = {name for name in expected if name not in given or given[name].shape != expected[name].shape}
    if unfit == set(expected):
        raise InputError(f"{source}: nothing in it fits the network that is to be trained")
    layers = {name.rpartition("/")[0] for name in unfit}
    merged = {
        name: jnp.asarray(value if name.rpartition("/")[0] in layers else np.asarray(given[name]))
        for name, value in expected.items()
    }
    return flax.traverse_util.unflatten_dict(merged, sep="/"), sorted(layers)


def check_parts(params: Params, parts: Iterable[str], source: str) -> None:
    """Raises InputError unless the parameters have all these parts."""
    for part in parts:
        if part not in params:
            raise InputError(
                f"{source}: the network has no part {part!r}: it has {', '.join(sorted(params))}"
            )


def _input(mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """The constant affine that images pass first: `(image - mean) / std`."""
    affine = {"scale": 1 / std, "bias": np.zeros_like(mean), "mean": mean, "var": np.ones_like(mean)}
    return {name: jnp.asarray(value, jnp.float32) for name, value in affine.items()}


def adapt(
    kernel: np.ndarray, preprocessing: Preprocessing, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes the first kernel one for images of `channels` channels, as `load_encoder` describes.

    Args:
      kernel: [h, w, S, O], in the order of `preprocessing`.
      preprocessing: of S channels.
      channels: C.

    Returns:
      The kernel [h, w, C, O] and, in the images' range, mean [C] and std [C].
    """
    mean = np.array(preprocessing.mean) / preprocessing.scale
    std = np.array(preprocessing.std) / preprocessing.scale
    if preprocessing.order == "bgr":
        kernel, mean, std = kernel[:, :, ::-1], mean[::-1], std[::-1]
    if kernel.shape[2] != channels:
        kernel = np.repeat(kernel.sum(2, keepdims=True) / channels, channels, axis=2)
        mean, std = np.full(channels, mean.mean()), np.full(channels, std.mean())
    return kernel, mean, std


def check_fit(found: Mapping[str, Any], expected: Mapping[str, Any], source: object) -> None:
    """Raises InputError unless names and shapes are the same; names the first that are not."""
    lacking = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    if lacking or surplus:
        raise InputError(
            f"{source}: the weights lack {', '.join(lacking[:3]) or 'nothing'} and have"
            f" {', '.join(surplus[:3]) or 'nothing'} too many"
        )
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise InputError(
                f"{source}: {name} is {found[name].shape} in the weights and {value.shape} in the model"
            )


def flatten(params: Params) -> dict[str, Any]:
    """`{"stage1/conv1/kernel": value}` from a tree."""
    return flax.traverse_util.flatten_dict(dict(params), sep="/")
