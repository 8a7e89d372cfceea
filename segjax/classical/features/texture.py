"""Texture features: pure functions of one map [H, W].

Convolutions are sums of shifted copies: for one channel this is several times as fast on CPU as XLA's own
convolution. Borders use edge padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segjax.typing import Array

HAND_MADE = ("intensity", "gauss 1", "gauss 2", "gauss 4", "gradient", "LoG 2", "deviation 7")
# Gaussians are cut at this many standard deviations, as SciPy's are.
TRUNCATE = 4.0


def hand_made(intensity: Array) -> jax.Array:
    """Returns the seven feature maps of the classical methods.

    Args:
      intensity: [H, W] float.

    Returns:
      [H, W, 7] float32, in the order of `HAND_MADE`: the map; blurred by 1, 2 and 4 pixels; the magnitude of
      the gradient at scale 1; the Laplacian of Gaussian at scale 2; the deviation in windows of 7 x 7.
    """
    intensity = jnp.asarray(intensity, jnp.float32)
    maps = [intensity, *(gaussian(intensity, sigma) for sigma in (1.0, 2.0, 4.0))]
    maps += [gradient(intensity, 1.0), laplacian(intensity, 2.0), deviation(intensity, 7)]
    return jnp.stack(maps, axis=-1)


def gaussian(values: Array, sigma: float) -> jax.Array:
    """Blurs a map [H, W]; `sigma` in pixels. As scipy.ndimage.gaussian_filter with mode "nearest"."""
    kernel = _gaussian_kernel(sigma)
    return correlate(correlate(values, kernel, axis=0), kernel, axis=1)


def gradient(values: Array, sigma: float) -> jax.Array:
    """The magnitude [H, W] of the gradient of a map, by derivatives of a Gaussian.

    References:
      scipy.ndimage.gaussian_gradient_magnitude with mode "nearest".
    """
    kernel, slope = _gaussian_kernel(sigma), _gaussian_kernel(sigma, order=1)
    down = correlate(correlate(values, slope, axis=0), kernel, axis=1)
    along = correlate(correlate(values, kernel, axis=0), slope, axis=1)
    return jnp.sqrt(down**2 + along**2)


def laplacian(values: Array, sigma: float) -> jax.Array:
    """The scale-normalised Laplacian of Gaussian [H, W], positive in bright blobs.

    The response to a disc of radius r is largest at sigma = r / sqrt 2.

    References:
      Lindeberg, https://doi.org/10.1023/A:1008045108935; `-sigma**2 * scipy.ndimage.gaussian_laplace` with
      mode "nearest".
    """
    kernel, bend = _gaussian_kernel(sigma), _gaussian_kernel(sigma, order=2)
    down = correlate(correlate(values, bend, axis=0), kernel, axis=1)
    along = correlate(correlate(values, kernel, axis=0), bend, axis=1)
    return -(sigma**2) * (down + along)


def deviation(values: Array, size: int) -> jax.Array:
    """The standard deviation [H, W] in windows of `size` x `size` pixels; `size` is odd."""
    # Mean square minus squared mean loses precision if the mean is large.
    values = values - jnp.mean(values)
    mean = box(values, size)
    return jnp.sqrt(jnp.maximum(box(values**2, size) - mean**2, 0))


def box(values: Array, size: int) -> jax.Array:
    """The mean [H, W] in windows of `size` x `size` pixels; `size` is odd."""
    kernel = np.full(size, 1 / size)
    return correlate(correlate(values, kernel, axis=0), kernel, axis=1)


def gabor(values: Array, *, frequencies: Sequence[float] = (0.1, 0.2), turns: int = 4) -> jax.Array:
    """The magnitude of complex Gabor filters, the greatest over all orientations.

    Args:
      values: [H, W] float.
      frequencies: frequencies of the wave, cycles per pixel. The envelope has a bandwidth of one octave.
      turns: number of orientations, evenly spread over half a turn.

    Returns:
      [H, W, len(frequencies)] float32.

    References:
      skimage.filters.gabor with mode "nearest".
    """
    magnitudes = []
    for frequency in frequencies:
        # A bandwidth of one octave, as scikit-image's.
        sigma = 1 / math.pi * math.sqrt(math.log(2) / 2) * 3 / frequency
        strongest = jnp.zeros_like(values, dtype=jnp.float32)
        radius = math.ceil(3 * sigma)
        offsets = np.arange(-radius, radius + 1)
        envelope = np.exp(-(offsets**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
        for turn in range(turns):
            angle = math.pi * turn / turns
            # A round envelope and a plane wave: the filter is a product of two, one for each axis.
            down = envelope * np.exp(2j * math.pi * frequency * math.sin(angle) * offsets)
            along = envelope * np.exp(2j * math.pi * frequency * math.cos(angle) * offsets)
            parts = [correlate(values, part, axis=0) for part in (down.real, down.imag)]
            real = correlate(parts[0], along.real, axis=1) - correlate(parts[1], along.imag, axis=1)
            imaginary = correlate(parts[0], along.imag, axis=1) + correlate(parts[1], along.real, axis=1)
            strongest = jnp.maximum(strongest, jnp.sqrt(real**2 + imaginary**2))
        magnitudes.append(strongest)
    return jnp.stack(magnitudes, axis=-1)


def local_binary_pattern(values: Array) -> jax.Array:
    """Which of its eight neighbours a pixel does not exceed, whatever the orientation.

    Args:
      values: [H, W] float.

    Returns:
      [H, W] float32: the number 0..8 of neighbours at least as bright where, going round, there are at most
      two changes between brighter and darker; else 9. Those at the corners are interpolated at distance 1.

    References:
      Ojala et al., https://doi.org/10.1109/TPAMI.2002.1017623; skimage.feature.local_binary_pattern with P=8,
      R=1, method "uniform", away from the border.
    """
    padded = jnp.pad(jnp.asarray(values, jnp.float32), 1, mode="edge")
    height, width = values.shape

    def shifted(y: int, x: int) -> jax.Array:
        return padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    centre, far = shifted(0, 0), math.sqrt(0.5)
    bits = []
    for y, x in ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)):
        if x and y:
            edge = far * shifted(y, 0) + (1 - far) * centre
            corner = far * shifted(y, x) + (1 - far) * shifted(0, x)
            # Along the row first, then along the column, as a bilinear interpolation goes.
            neighbour = far * corner + (1 - far) * edge
        else:
            neighbour = shifted(y, x)
        bits.append(neighbour - centre >= -1e-6)  # tolerance, so that rounding does not separate equal values
    around = jnp.stack(bits).astype(jnp.float32)
    changes = jnp.sum(jnp.abs(around - jnp.roll(around, 1, axis=0)), axis=0)
    return jnp.where(changes <= 2, jnp.sum(around, axis=0), 9.0)


def cooccurrence(values: Array, *, size: int = 15, levels: int = 8) -> jax.Array:
    """Statistics of the grey-level co-occurrence matrix in a window about every pixel.

    Pairs are a pixel and its right, or its lower, neighbour, both ways round. Of the matrix itself only its
    moments are needed, so it is never formed.

    Args:
      values: [H, W] float; quantised between its least and its greatest value.
      size: side of the window, pixels, odd.
      levels: number of grey levels.

    Returns:
      [H, W, 3] float32: contrast, homogeneity and correlation (1 where the window is flat).

    References:
      Haralick et al., https://doi.org/10.1109/TSMC.1973.4309314; skimage.feature.graycoprops.
    """
    low, high = jnp.min(values), jnp.max(values)
    grey = jnp.floor((values - low) / jnp.maximum(high - low, 1e-12) * levels)
    grey = jnp.clip(grey, 0, levels - 1) - (levels - 1) / 2
    padded = jnp.pad(grey, ((0, 1), (0, 1)), mode="edge")
    sums = jnp.zeros((5, *values.shape))
    for other in (padded[:-1, 1:], padded[1:, :-1]):
        difference = (grey - other) ** 2
        maps = (difference, 1 / (1 + difference), (grey + other) / 2, (grey**2 + other**2) / 2, grey * other)
        sums += jnp.stack([box(values, size) for values in maps]) / 2
    contrast, homogeneity, mean, square, product = sums
    variance = square - mean**2
    flat = variance < 1e-4
    correlation = jnp.where(flat, 1.0, (product - mean**2) / jnp.where(flat, 1.0, variance))
    return jnp.stack([contrast, homogeneity, jnp.clip(correlation, -1, 1)], axis=-1)


def correlate(values: Array, kernel: np.ndarray, *, axis: int) -> jax.Array:
    """Correlates a map [H, W] with a kernel of odd length along one axis."""
    values = jnp.asarray(values, jnp.float32)
    radius, size = len(kernel) // 2, values.shape[axis]
    padded = jnp.pad(values, [(radius, radius) if other == axis else (0, 0) for other in (0, 1)], mode="edge")
    total = jnp.zeros_like(values)
    for index, weight in enumerate(kernel):
        if weight:
            total += float(weight) * jax.lax.slice_in_dim(padded, index, index + size, axis=axis)
    return total


def _gaussian_kernel(sigma: float, order: int = 0) -> np.ndarray:
    """Returns a sampled Gaussian kernel, or its first or second derivative, for correlation."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    if order == 1:
        kernel = kernel * offsets / sigma**2
    elif order == 2:
        kernel = kernel * (offsets**2 - sigma**2) / sigma**4
    return kernel
