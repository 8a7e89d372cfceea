"""Cuts an image of any size into windows of few sizes, and joins what a network says of them."""

from collections.abc import Callable, Iterator

import numpy as np

from segjax.typing import Outputs


def window_size(shape: tuple[int, int], *, tile: int, step: int = 128) -> int:
    """The side of the square windows for an image: a multiple of `step`, at most `tile`.

    A jit-compiled network is compiled once for each side, so `tile / step` times at most.
    """
    return min(tile, -(-max(shape) // step) * step)


def window_offsets(length: int, window: int, overlap: int) -> list[int]:
    """Where the windows begin along one axis: evenly spread, overlapping by at least `overlap`."""
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    return [round(index * (length - window) / (count - 1)) for index in range(count)]


def blend_weights(length: int, window: int, overlap: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields where each window begins along one axis, and its [window] weights.

    The weights rise linearly over the overlap with a neighbour and are 1 elsewhere, so that at the border of
    the image a window keeps its full say. They are positive throughout: the sum can be divided by.
    """
    begins = window_offsets(length, window, overlap)
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    for index, begin in enumerate(begins):
        weights = np.ones(window, np.float32)
        if index > 0:
            weights[:overlap] = ramp
        if index < len(begins) - 1:
            weights[window - overlap :] = ramp[::-1]
        yield begin, weights


def fit_windows(image: np.ndarray, *, tile: int) -> tuple[np.ndarray, int]:
    """Continues an image [H, W, C] by reflection where it is smaller than a window; the window's side."""
    side = window_size((image.shape[0], image.shape[1]), tile=tile)
    margins = [(0, max(side - length, 0)) for length in image.shape[:2]]
    # `symmetric` continues images of a single row or column too.
    return np.pad(image, [*margins, (0, 0)], mode="symmetric"), side


def predict_tiled(
    predict: Callable[[np.ndarray], Outputs],
    image: np.ndarray,
    *,
    tile: int,
    overlap: int,
) -> Outputs:
    """Predicts an image window by window and blends where windows overlap.

    Args:
      predict: `images [1, S, S, C] -> outputs`, each leading with 1, S, S.
      image: [H, W, C] float32. Where it is smaller than a window it is continued by reflection.
      tile: the largest side S of a window, in pixels.
      overlap: of neighbouring windows, in pixels; at least the reach of the network to leave no seam.

    Returns:
      The outputs of the whole image, [H, W, ...] float32.
    """
    height, width = image.shape[:2]
    padded, side = fit_windows(image, tile=tile)
    sums: dict[str, np.ndarray] = {}
    total = np.zeros(padded.shape[:2], np.float32)
    for top, rows in blend_weights(padded.shape[0], side, overlap):
        for left, columns in blend_weights(padded.shape[1], side, overlap):
            window = (slice(top, top + side), slice(left, left + side))
            weights = rows[:, None] * columns
            total[window] += weights
            for name, values in predict(padded[window][None]).items():
                values = np.asarray(values[0], np.float32)
                if name not in sums:
                    sums[name] = np.zeros((*padded.shape[:2], *values.shape[2:]), np.float32)
                sums[name][window] += values * weights.reshape(side, side, *(1,) * (values.ndim - 2))
    return {
        name: (values / total.reshape(*total.shape, *(1,) * (values.ndim - 2)))[:height, :width]
        for name, values in sums.items()
    }
