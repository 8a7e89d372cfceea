"""Pretrained weights as one safetensors file, with the preprocessing of their images."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from segjax.errors import InputError
from segjax.files import atomic_write
from segjax.typing import Params


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of the images that weights were trained on: `(image * scale - mean) / std`.

    Attributes:
      order: channel order of `mean`, `std` and the first kernel: `rgb` or `bgr`.
      scale: factor that multiplies images in 0..1.
      mean: mean of each channel, in `order`.
      std: standard deviation of each channel, in `order`.
    """

    order: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise InputError(f"the order of preprocessing must be rgb or bgr, not {self.order!r}")
        if len(self.mean) != len(self.std) or not min(*self.std, self.scale) > 0:
            raise InputError(f"preprocessing needs a scale > 0 and as many std > 0 as mean, not {self}")


PREPROCESSING = {
    "torchvision": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # The models of the Oxford group and of Kaiming He, and Keras's VGG and ResNet.
    "caffe": Preprocessing(order="bgr", scale=255.0, mean=(103.939, 116.779, 123.68)),
    # The same VGG16 for RGB: torchvision's IMAGENET1K_FEATURES.
    "caffe_rgb": Preprocessing(scale=255.0, mean=(123.0, 117.0, 104.0)),
    # Many of timm's models.
    "inception": Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "none": Preprocessing(),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A pretrained encoder or detector.

    Attributes:
      architecture: name in `segmenters.ENCODERS` or `weights.detectors.DETECTORS`.
      params: tree of parameters, float32.
      preprocessing: preprocessing of the images that it was trained on.
    """

    architecture: str
    params: Params
    preprocessing: Preprocessing

    @property
    def norm(self) -> str:
        """The norm of an encoder with these parameters: `frozen_batch` or `none`."""
        return "frozen_batch" if any(name.endswith("/var") for name in flatten(self.params)) else "none"


def save(weights: Weights, path: str | pathlib.Path) -> None:
    """Writes weights as one safetensors file."""
    preprocessing = json.dumps(dataclasses.asdict(weights.preprocessing))
    metadata = {"architecture": weights.architecture, "preprocessing": preprocessing}
    flat = {name: np.ascontiguousarray(value) for name, value in flatten(weights.params).items()}
    try:
        with atomic_write(path) as tmp_path:
            write_tensors(flat, tmp_path, metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written ({error}): choose another file") from error


def write_tensors(flat: Mapping[str, np.ndarray], path: pathlib.Path, metadata: Mapping[str, str]) -> None:
    """Writes arrays as one safetensors file that others may read, unlike `safetensors.numpy.save_file`.

    Raises:
      OSError: if the file cannot be written.
      SafetensorError: if an array has a dtype that the format does not have.
    """
    path.write_bytes(safetensors.numpy.save(dict(flat), metadata=dict(metadata)))


def load(path: str | pathlib.Path) -> Weights:
    """Reads a file that `save` wrote.

    Raises:
      InputError: if the file does not exist, is damaged, or was not written by `save`.
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
        raise InputError(
            f"{path}: not a readable safetensors file ({error}): copy or convert it again"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a weights file of segjax: convert it with segjax convert") from error
    return Weights(architecture, unflatten(flat), preprocessing)


def flatten(params: Params) -> dict[str, Any]:
    """Returns `{"stage1/conv1/kernel": value}` for a tree of parameters."""
    return flax.traverse_util.flatten_dict(dict(params), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tree of `flatten`."""
    return flax.traverse_util.unflatten_dict(dict(flat), sep="/")
