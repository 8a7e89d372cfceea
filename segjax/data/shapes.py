"""Checks of the sizes and channels of training images."""

from __future__ import annotations

from segjax.data.channels import COLOUR, GREY
from segjax.data.preprocess import resized_shape
from segjax.data.records import Source
from segjax.errors import InputError


def shapes_of(source: Source) -> list[tuple[str, tuple[int, ...]]]:
    """Returns name and shape [H, W, C] of each image that is known without decoding, by `source.shapes()`."""
    shapes: list[tuple[str, tuple[int, ...]]] = source.shapes() if hasattr(source, "shapes") else []
    return shapes


def check_shape(
    name: str, shape: tuple[int, ...], *, channels: int, scale: float, patch_size: int | None
) -> None:
    """Checks that an image can be trained on.

    Args:
      name: its name.
      shape: (H, W, C) as stored.
      channels: number of channels of the first image.
      scale: scale factor of each side.
      patch_size: smallest side after scaling; None if any is allowed.

    Raises:
      InputError: if it is too small or has other channels.
    """
    height, width = resized_shape(shape[:2], scale)
    if patch_size is not None and min(height, width) < patch_size:
        raise InputError(
            f"{name} is {height} x {width} pixels at scale {scale:g}, smaller than patch_size={patch_size}:"
            " make the patch smaller or the scale larger"
        )
    if shape[-1] != channels:
        way_out = "all images must have the same channels"
        if {shape[-1], channels} == {GREY, COLOUR}:
            way_out = "--config.dataset.channels=3 makes colour images of grey ones"
        raise InputError(f"{name} has {shape[-1]} channels, but the first image has {channels}: {way_out}")
