"""Pictures with a known answer, for every method alike."""

import numpy as np


def discs(shape, *circles):
    """[H, W] bool; each circle is (y, x, radius)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= r**2 for cy, cx, r in circles], axis=0)


def fluorescence(foreground, seed=0):
    """Bright cells, from dim to four times as bright from left to right, on dark noise: [H, W, 1] uint16."""
    rng = np.random.default_rng(seed)
    gain = np.linspace(1, 4, foreground.shape[1])
    return rng.poisson(200 + foreground * 600 * gain).astype(np.uint16)[..., None]


# Three touching pairs and two alone.
FIELD = discs(
    (120, 128),
    (24, 24, 11),
    (24, 43, 11),
    (30, 90, 12),
    (50, 96, 11),
    (90, 20, 12),
    (92, 60, 10),
    (95, 78, 10),
)
COUNT = 7
