"""Pictures of the stages that a classical method goes through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segjax.classical.stages import Stages
from segjax.report.overlays import draw_outlines, to_display_rgb

SEED = (255, 40, 40)


# Side of the part of an image that is shown, pixels: enough for some cells, few enough to see outlines.
WINDOW = 256


def busiest(foreground: np.ndarray) -> tuple[slice, slice]:
    """The window of at most `WINDOW` x `WINDOW` pixels of a foreground [H, W] that holds the most of it."""
    sides = [min(WINDOW, side) for side in foreground.shape]
    share = ndimage.uniform_filter(foreground.astype(np.float32), sides, mode="constant")
    y, x = np.unravel_index(share.argmax(), share.shape)
    corners = [
        min(max(int(place) - side // 2, 0), whole - side)
        for place, side, whole in zip((y, x), sides, foreground.shape, strict=True)
    ]
    top, left = corners
    return slice(top, top + sides[0]), slice(left, left + sides[1])


def draw_stages(
    image: np.ndarray,
    stages: Stages,
    class_names: Sequence[str],
    *,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> list[tuple[str, np.ndarray]]:
    """Draws what a method makes of an image, step by step.

    Args:
      image: [H, W, C] any real type.
      stages: of the same H and W.
      class_names: K names, background first.
      window: the rows and columns that are shown.

    Returns:
      `(caption, picture [h, w, 3] uint8)` of every feature map, the foreground, the seeds and the instances.
    """
    shown = to_display_rgb(image)
    pictures = [(name, _map(values)) for name, values in stages.features.items()]
    pictures.append(("foreground", np.where(stages.foreground[..., None], shown, shown // 4)))
    pictures.append((f"{len(stages.seeds)} seeds", _with_seeds(shown, stages.seeds)))
    found = stages.segmentation
    pictures.append((f"{found.num_instances} instances", draw_outlines(shown, found, class_names)))
    return [(caption, picture[window]) for caption, picture in pictures]


def _map(values: np.ndarray) -> np.ndarray:
    """A map [H, W] in grey, from its lowest value to its highest."""
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        low, high = values.min(), values.max()
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.repeat(np.round(255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def _with_seeds(shown: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Marks each seed by a small diamond."""
    height, width, _ = shown.shape
    marks = np.zeros((height, width), bool)
    for y, x in np.round(seeds).astype(int).tolist():
        marks[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] = True
    marks = ndimage.binary_dilation(marks, iterations=2)
    return np.where(marks[..., None], np.array(SEED, np.uint8), shown)
