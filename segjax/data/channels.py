"""Alpha, and the channels of an image that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.errors import InputError

GREY, COLOUR = 1, 3
# Largest value of the types in which alpha is stored.
OPAQUE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535, np.dtype(np.float32): 1}


def match_channels(image: np.ndarray, channels: int | None, *, name: str = "the image") -> np.ndarray:
    """Converts between grey and colour where that loses nothing, and drops alpha of opaque images.

    Args:
      image: [H, W, C] of any real type.
      channels: the number that a network was trained on; None accepts any.
      name: the image in the message of an error.

    Returns:
      [H, W, channels] of the same type. Grey becomes three equal channels, and three equal channels become
      grey.

    Raises:
      InputError: for all other differences.

    >>> match_channels(np.array([[[7], [8]]]), 3).tolist()
    [[[7, 7, 7], [8, 8, 8]]]
    """
    if channels is None or image.shape[-1] == channels:
        return image
    pixels = image
    if channels in (GREY, COLOUR) and _has_opaque_alpha(image):
        pixels = image[..., :-1]
    if pixels.shape[-1] == GREY and channels == COLOUR:
        return np.repeat(pixels, COLOUR, axis=-1)
    if pixels.shape[-1] == COLOUR and channels == GREY and (pixels == pixels[..., :1]).all():
        return pixels[..., :1]
    if pixels.shape[-1] == channels:
        return pixels
    has, example = ", ".join(map(str, range(image.shape[-1]))), ",".join(map(str, range(channels)))
    raise InputError(
        f"{name} has the channels {has}, but the network was trained on {channels}: choose {channels} in the"
        f" order of the training images, such as --channels={example}"
    )


def select_channels(image: np.ndarray, selected: Sequence[int], *, name: str) -> np.ndarray:
    """Returns channels of an image [H, W, C] in another order; a channel may occur several times.

    Raises:
      InputError: if the image has no such channel.
    """
    missing = [index for index in selected if not 0 <= index < image.shape[-1]]
    if missing:
        raise InputError(
            f"--channels names channel {missing[0]}, but {name} has only the channels"
            f" {', '.join(map(str, range(image.shape[-1])))}"
        )
    return image[..., list(selected)]


def without_alpha(pixels: np.ndarray, *, as_labels: bool) -> np.ndarray:
    """Drops the last channel, which is alpha.

    Args:
      pixels: [H, W, C].
      as_labels: whether they are labels. Those that are transparent become background; colours keep alpha.
    """
    if not as_labels:
        return pixels[..., :-1]
    return np.where(pixels[..., 1:] == 0, 0, pixels[..., :1]) if pixels.shape[-1] == 2 else pixels


def _has_opaque_alpha(image: np.ndarray) -> bool:
    if image.shape[-1] not in (GREY + 1, COLOUR + 1) or image.dtype not in OPAQUE:
        return False
    return bool((image[..., -1] == OPAQUE[image.dtype]).all())
