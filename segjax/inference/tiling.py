"""Cuts an image of any size into windows of few sizes, and blends the maps predicted for them."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from segjax.typing import Outputs


def window_size(shape: tuple[int, int], *, tile: int, step: int = 128) -> int:
    """Returns the side of the square windows for an image: a multiple of `step`, at most `tile`.

    A jit-compiled network is compiled once for each side, so at most `tile / step` times.
    """
    return min(tile, -(-max(shape) // step) * step)


def window_offsets(length: int, window: int, overlap: int) -> list[int]:
    """Returns where the windows start along one axis: evenly spaced, overlapping by at least `overlap`."""
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def blend_weights(length: int, window: int, overlap: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the start of each window along one axis, and its [window] weights.

    The weights rise linearly over the overlap with a neighbour and are 1 elsewhere, also at the border of the
    image. All are positive, so their sum can be divided by.
    """
    starts = window_offsets(length, window, overlap)
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    for index, start in enumerate(starts):
        weights = np.ones(window, np.float32)
        if index > 0:
            weights[:overlap] = ramp
        if index < len(starts) - 1:
            weights[window - overlap :] = ramp[::-1]
        yield start, weights


def fit_windows(image: np.ndarray, *, tile: int) -> tuple[np.ndarray, int]:
    """Pads an image [H, W, C] to at least one window, by reflection; returns it and the window's side."""
    side = window_size((image.shape[0], image.shape[1]), tile=tile)
    margins = [(0, max(side - length, 0)) for length in image.shape[:2]]
    # `symmetric` also pads images of a single row or column.
    return np.pad(image, [*margins, (0, 0)], mode="symmetric"), side


def predict_tiled(
    predict: Callable[[np.ndarray], Outputs], image: np.ndarray, *, tile: int, overlap: int
) -> Outputs:
    """Predicts maps window by window and blends them where windows overlap.

    Args:
      predict: `images [1, S, S, C] -> outputs`, each leading with 1, S, S.
      image: [H, W, C] float32. If it is smaller than a window, it is padded by reflection.
      tile: the largest side S of a window, pixels.
      overlap: overlap of neighbouring windows, pixels. Seams may be visible if it is smaller than the
        receptive field of the network.

    Returns:
      The outputs of the full image, [H, W, ...] float32.
    """
    height, width = image.shape[:2]
    padded, side = fit_windows(image, tile=tile)
    sums: dict[str, np.ndarray] = {}
    total = np.zeros(padded.shape[:2], np.float32)
    axes = (blend_weights(length, side, overlap) for length in padded.shape[:2])
    for (top, rows), (left, columns) in itertools.product(*axes):
        window = (slice(top, top + side), slice(left, left + side))
        weights = rows[:, None] * columns
        total[window] += weights
        for name, values in predict(padded[window][None]).items():
            values = np.asarray(values[0], np.float32)
            if name not in sums:
                sums[name] = np.zeros((*padded.shape[:2], *values.shape[2:]), np.float32)
            sums[name][window] += _expand(weights, values.ndim) * values
    return {name: (values / _expand(total, values.ndim))[:height, :width] for name, values in sums.items()}


def _expand(weights: np.ndarray, ndim: int) -> np.ndarray:
    """Appends axes of size 1, up to `ndim`."""
    return weights.reshape(*weights.shape, *(1,) * (ndim - 2))
