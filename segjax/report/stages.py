"""Pictures of the intermediate stages of a classical method."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segjax.classical.stages import Stages
from segjax.report.overlays import draw_outlines, to_display_rgb

SEED = (255, 40, 40)
# Side of the displayed window, pixels: large enough for some cells, small enough to see outlines.
WINDOW = 256


def busiest(foreground: np.ndarray) -> tuple[slice, slice]:
    """Returns the window, at most `WINDOW` x `WINDOW`, with the most foreground of a mask [H, W]."""
    sides = [min(WINDOW, side) for side in foreground.shape]
    density = ndimage.uniform_filter(foreground.astype(np.float32), sides, mode="constant")
    y, x = np.unravel_index(density.argmax(), density.shape)
    top, left = (
        min(max(int(centre) - side // 2, 0), length - side)
        for centre, side, length in zip((y, x), sides, foreground.shape, strict=True)
    )
    return slice(top, top + sides[0]), slice(left, left + sides[1])


def draw_stages(
    image: np.ndarray,
    stages: Stages,
    *,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> list[tuple[str, np.ndarray]]:
    """Draws the intermediate results of a method on an image.

    Args:
      image: [H, W, C] image, any real dtype.
      stages: intermediate results of the same height and width.
      window: rows and columns to show.

    Returns:
      `(caption, picture [h, w, 3] uint8)` of every feature map, the foreground, the seeds and the instances.
    """
    shown, segmentation = to_display_rgb(image), stages.segmentation
    pictures = {name: _map(values) for name, values in stages.features.items()} | {
        "foreground": np.where(stages.foreground[..., None], shown, shown // 4),
        f"{len(stages.seeds)} seeds": _with_seeds(shown, stages.seeds),
        f"{segmentation.num_instances} instances": draw_outlines(shown, segmentation),
    }
    return [(caption, picture[window]) for caption, picture in pictures.items()]


def _map(values: np.ndarray) -> np.ndarray:
    """Renders a map [H, W] in grey, scaled to its 0.5th to 99.5th percentile."""
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        low, high = values.min(), values.max()
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.repeat(np.round(255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def _with_seeds(shown: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Marks each seed with a small diamond."""
    height, width, _ = shown.shape
    marks = np.zeros((height, width), bool)
    for y, x in np.round(seeds).astype(int).tolist():
        marks[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] = True
    marks = ndimage.binary_dilation(marks, iterations=2)
    return np.where(marks[..., None], np.array(SEED, np.uint8), shown)
