"""How a network sees a large image, measured on a few windows: the diameter of its cells, and the margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.data.preprocess import DIAMETER_SCALES
from segjax.data.readers.lazy import Level
from segjax.errors import InputError
from segjax.inference.dense import PASSES, TOLERANCE, DensePredictor
from segjax.inference.large.grid import Box
from segjax.inference.large.intensities import Intensities
from segjax.inference.large.methods import Scale, network_input
from segjax.segmentation.masks import median_diameter

# Side and number of the measured windows: those with most contrast, of this many candidates.
SIDE, COUNT, CANDIDATES = 512, 8, 64
# Largest change of an output, such as a probability, that pixels beyond the margin may cause.
MAX_CHANGE = 1e-3
# Width of the outer pixels that are replaced to measure the margin, and the number of windows for it.
RING, PROBES = 64, 3


def measure_scale(
    predictor: DensePredictor, level: Level, intensities: Intensities, boxes: Sequence[Box]
) -> Scale:
    """Measures how a network sees an image.

    An output depends on all pixels within the margin of the network, but on most of them very weakly. The
    margin of the result is the distance beyond which pixels change outputs by less than `MAX_CHANGE`.

    Args:
      predictor: the network.
      level: the image.
      intensities: intensities of the image, see `measure_intensities`.
      boxes: the parts of the image that are segmented.
    """
    candidates = boxes[:: -(-len(boxes) // CANDIDATES)]
    samples = sorted(
        (sample for box in candidates if (sample := _centre(level, box)) is not None),
        key=lambda sample: -sample[0],
    )[:COUNT]
    config, factor = predictor.config, 1.0
    diameter: float | None = None
    if config.trained_diameter is not None:
        diameter = config.trained_diameter
        if config.diameter:
            factor = diameter / config.diameter
        else:
            factor = _factor(predictor, level, intensities, [box for _, box in samples])
    margin = _margin(predictor, network_input(predictor, level, intensities, factor), samples, level.shape)
    return Scale(factor, margin, diameter)


def _centre(level: Level, box: Box) -> tuple[float, Box] | None:
    """Returns `(contrast, window)` of the middle of a box; None if it cannot be read."""
    top = max(box.top, (box.top + box.bottom - SIDE) // 2)
    left = max(box.left, (box.left + box.right - SIDE) // 2)
    middle = Box(top, left, min(top + SIDE, box.bottom), min(left + SIDE, box.right))
    try:
        return float(level.read(middle.top, middle.left, *middle.shape).std()), middle
    except InputError:
        return None


def _factor(
    predictor: DensePredictor, level: Level, intensities: Intensities, windows: Sequence[Box]
) -> float:
    """Returns the factor that gives cells the diameter of the training, as `DensePredictor` estimates it."""
    trained, factor = predictor.config.trained_diameter or 1.0, 1.0
    for _ in range(PASSES):
        areas: list[np.ndarray] = []
        source = network_input(predictor, level, intensities, factor)
        for window in windows:
            top, left, bottom, right = (
                int(side * new / old)
                for side, new, old in zip(window, source.shape[:2] * 2, level.shape[:2] * 2, strict=True)
            )
            pixels = source.read(top, left, max(bottom - top, 1), max(right - left, 1))
            labels = predictor.segment_prepared(pixels).labels
            areas.append(np.bincount(labels.ravel())[1:])
        diameter = median_diameter(np.concatenate([np.zeros(0), *areas]))
        change = np.clip(trained / diameter, 0.5, 2) if diameter > 0 else 1.0
        if abs(np.log(change)) < np.log(TOLERANCE):
            break
        factor = float(np.clip(factor * change, *DIAMETER_SCALES))
    return factor


def _margin(
    predictor: DensePredictor, source: Level, samples: Sequence[tuple[float, Box]], shape: Sequence[int]
) -> int:
    """Returns the distance up to which a change of the outer pixels of a window changes its outputs.

    The distance is in pixels of the network, a multiple of its stride.
    """
    stride = predictor.task.stride
    exact = -(-predictor.margin(source.shape[2]) // stride) * stride
    side = SIDE // stride * stride
    if exact <= stride or min(source.shape[:2]) < side:
        return exact
    farthest = 0
    for _, box in samples[:PROBES]:
        top, left = (
            int(np.clip((start + stop) / 2 * new / old - side / 2, 0, new - side))
            for (start, stop), new, old in zip(
                ((box.top, box.bottom), (box.left, box.right)), source.shape[:2], shape[:2], strict=True
            )
        )
        window = source.read(top, left, side, side)
        without = np.zeros_like(window)
        without[RING:-RING, RING:-RING] = window[RING:-RING, RING:-RING]
        as_is, changed = (predictor.predict_windows(pixels[None]) for pixels in (window, without))
        for name, values in as_is.items():
            change = np.abs(np.asarray(values)[0] - np.asarray(changed[name])[0]).reshape(side, side, -1)
            farthest = max(farthest, _depth(change.max(axis=2)[RING:-RING, RING:-RING] > MAX_CHANGE))
    deepest = (side - 2 * RING) // 2
    return exact if farthest >= deepest else min(-(-farthest // stride) * stride, exact)


def _depth(is_changed: np.ndarray) -> int:
    """Returns the largest distance from the edge of a square at which a pixel is changed."""
    side = len(is_changed)
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
    return int((np.minimum(distance[:, None], distance) * is_changed).max(initial=0))
