"""Checks of the pixels of one image: range, focus, exposure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segjax.datasets.checks.findings import Finding

# Quantiles of floats are those of a sample; those of integers come from a histogram and are exact.
SAMPLE = 2**18
BLOCK = 16
TILE = 1024
# Fewer grey levels between dark and bright cannot show the texture of a cell.
FEWEST_LEVELS = 4
# Limit of the fraction of cell pixels that are clipped. In healthy images, bright nuclei clip a few percent.
MOST_CLIPPED = 0.2
# A plateau below the maximum of the type, as of a 12-bit camera, shows as a peak at the top of the histogram.
PEAK_RATIO = 4.0
PEAK_LEVELS = 32
# Limit of `sharpness`. BBBC038 begins at 0.21, MNFinder at 0.50; blurred by six pixels, with or without noise
# of 1 % of the range, nearly all of their images are below.
BLURRED = 0.18

QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)


class Pixels(NamedTuple):
    """Statistics of one image.

    Attributes:
      quantiles: intensities at `QUANTILES`, all channels together.
      sharpness: see `sharpness`; None without contrast.
      clipped: see `clipped_fraction`.
    """

    quantiles: tuple[float, ...]
    sharpness: float | None
    clipped: float


def measure(image: np.ndarray, inside: np.ndarray | None = None) -> Pixels:
    """Measures an image.

    Args:
      image: [H, W, C] of any real type, finite.
      inside: [H, W] bool, the pixels in which clipping counts; all if None or if there are none.
    """
    return Pixels(quantiles(image), sharpness(image), clipped_fraction(image, inside))


def check_pixels(image: np.ndarray, inside: np.ndarray | None = None) -> list[Finding]:
    """Checks the pixels of an image.

    Args:
      image: [H, W, C] of any real type.
      inside: [H, W] bool, the cells.

    Returns:
      Findings of kinds `no_pixels`, `not_finite`, `constant`, `low_contrast`, `saturated`, `blurred`.
    """
    if not image.size:
        return [Finding("no_pixels", f"{image.shape[0]} x {image.shape[1]} pixels")]
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        return [Finding("not_finite", f"{int((~np.isfinite(image)).sum())} values are NaN or infinite")]
    pixels = measure(image, inside)
    lowest, dark, bright, highest = (pixels.quantiles[index] for index in (0, 1, -2, -1))
    if lowest == highest:
        return [Finding("constant", f"every pixel is {lowest:g}")]
    findings = []
    if image.dtype.kind in "ui" and bright - dark < FEWEST_LEVELS:
        detail = f"99.8 % of the values are between {dark:g} and {bright:g}"
        findings.append(Finding("low_contrast", detail))
    if pixels.clipped > MOST_CLIPPED:
        findings.append(Finding("saturated", f"{pixels.clipped:.0%} of the pixels of cells are {highest:g}"))
    if pixels.sharpness is not None and pixels.sharpness < BLURRED:
        findings.append(Finding("blurred", f"sharpness {pixels.sharpness:.3f}, below {BLURRED:g}"))
    return findings


def quantiles(image: np.ndarray) -> tuple[float, ...]:
    """Returns the intensities at `QUANTILES`, over all channels."""
    if image.dtype in (np.uint8, np.uint16):
        # Band by band, as bincount converts to eight bytes per value.
        rows = range(0, image.shape[0], TILE)
        levels = np.iinfo(image.dtype).max + 1
        rising = np.cumsum(sum(np.bincount(image[y : y + TILE].ravel(), minlength=levels) for y in rows))
        ranks = np.round(np.array(QUANTILES) * (rising[-1] - 1)).astype(np.int64)
        return tuple(float(value) for value in np.searchsorted(rising, ranks, side="right"))
    values = image.ravel()
    inner = np.quantile(values[:: -(-values.size // SAMPLE)], QUANTILES[1:-1])
    return (float(values.min()), *(float(value) for value in inner), float(values.max()))


def clipped_fraction(image: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Returns the fraction of pixels at the highest value, 0 unless the histogram has a plateau there.

    Args:
      image: [H, W, C].
      inside: [H, W] bool, the pixels to count: a bright-field background is white in a healthy image.

    Returns:
      The fraction in the channel that has most.
    """
    values = image[inside] if inside is not None and inside.any() else image.reshape(-1, image.shape[-1])
    top = image.max()
    at_top = (values == top).mean(axis=0).max()
    full = image.dtype.kind in "ui" and top == np.iinfo(image.dtype).max
    if at_top <= MOST_CLIPPED or full:
        return float(at_top)
    # Slow, but rarely needed.
    levels, counts = np.unique(image, return_counts=True)
    plateau = len(levels) > PEAK_LEVELS and counts[-1] > PEAK_RATIO * counts[-PEAK_LEVELS:-1].max()
    return float(at_top) if plateau else 0.0


def sharpness(image: np.ndarray) -> float | None:
    """Measures how much of the contrast of the strongest structures lies between neighbouring pixels.

    The RMS of the Laplacian divided by the RMS deviation from the local mean, both at half resolution, in the
    tenth of the blocks of `BLOCK` x `BLOCK` pixels with most variance. This excludes empty background, whose
    noise is sharp at any focus; half resolution suppresses noise elsewhere. Exposure and gain cancel. The
    sharpest tile of a large image counts.

    Args:
      image: [H, W, C].

    Returns:
      About 0.5 for cells in focus, towards 0 out of focus; None without contrast or for an image smaller than
      a block.
    """
    height, width = image.shape[:2]
    scores = [
        _tile_sharpness(image[y : y + TILE, x : x + TILE])
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    ]
    return max((score for score in scores if score is not None), default=None)


def mean_channel(image: np.ndarray) -> np.ndarray:
    """Returns the mean over channels, [H, W] float32; several times faster than `mean(axis=-1)`."""
    grey = image[..., 0].astype(np.float32)
    for channel in range(1, image.shape[-1]):
        grey += image[..., channel]
    return grey / np.float32(image.shape[-1])


def _tile_sharpness(image: np.ndarray) -> float | None:
    rows, columns = (size // 2 for size in image.shape[:2])
    grey = mean_channel(image[: 2 * rows, : 2 * columns]).reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    rows, columns = (grey.shape[0] - 2) // BLOCK, (grey.shape[1] - 2) // BLOCK
    if rows < 1 or columns < 1:
        return None
    grey = grey[: rows * BLOCK + 2, : columns * BLOCK + 2]
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre

    def blocks(values: np.ndarray) -> np.ndarray:
        return values.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)

    variance = blocks(centre).var(axis=-1)
    strongest = np.argsort(variance)[-max(1, len(variance) // 10) :]
    contrast = variance[strongest].mean()
    if contrast <= 0:
        return None
    return float(np.sqrt((blocks(laplacian)[strongest] ** 2).mean() / contrast))
