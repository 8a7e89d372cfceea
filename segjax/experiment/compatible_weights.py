"""Checks that the weights of another network mean the same in the network of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from segjax.data.channels import COLOUR, GREY
from segjax.errors import InputError

# Fields of `config.model` that change what parameters mean, but not always their names and shapes.
SAME = ("encoder", "backbone", "norm", "decoder_norm", "pyramid_norm", "head_norm")


def check_compatible(config: ConfigDict, channels: int, trained: Mapping[str, Any], trained_on: int) -> None:
    """Checks that a network can begin with the weights of another one.

    Args:
      config: the config of the network; `config.model.weights` names the other one.
      channels: number of channels of its images.
      trained: `config.model` of the other network.
      trained_on: number of channels of its images.

    Raises:
      InputError: if the images are grey and those of the other network are not, or if the encoder or a norm
        differs.
    """
    weights = config.model.weights
    if (trained_on, channels) == (COLOUR, GREY):
        raise InputError(
            f"config.model.weights={weights} was trained on images of 3 channels, and these have 1: add"
            " --config.dataset.channels=3, which makes colour images of grey ones"
        )
    for field in SAME:
        own, other = (str(model.get(field)).removesuffix("_fpn") for model in (config.model, trained))
        if "None" not in (own, other) and own != other:
            raise InputError(
                f"config.model.weights={weights} was trained with config.model.{field}={trained.get(field)},"
                f" not {config.model.get(field)}: give --config.model.{field}={trained.get(field)}, or other"
                " weights"
            )
