"""Finds equal and similar images, regardless of flips, quarter turns and exposure.

A perceptual hash of its own, as no library has one that is invariant under flips and quarter turns.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segjax.datasets.checks.pixels import mean_channel

# Coefficients of the discrete cosine transform along each axis.
ORDER = 16
# Larger images are subsampled first: the coefficients describe far longer waves.
MAX_PIXELS = 2**21
# Number of pixels for quantiles.
SAMPLE = 2**15
# Number of images compared at a time, which bounds the memory.
CHUNK = 1024
# Cosine similarity of two perceptual fingerprints from which two images are alike. Different images of
# BBBC038 reach 0.49, crops with a single cell in the middle 0.89; JPEG, noise, gamma or a shift of two pixels
# leave it above 0.93.
ALIKE = 0.9
# Similarity from which two images share a split, or one is excluded. Lower values occur by chance if all
# images of a set show one cell in the middle.
SAME = 0.95


def pixel_digest(image: np.ndarray) -> str:
    """Returns the sha256 of the values of an image, in hexadecimal.

    It does not depend on their storage: equal channels count as one, 8 bits in 16 as 8.

    Args:
      image: [H, W, C].
    """
    if image.shape[-1] > 1 and (image == image[..., :1]).all():
        image = image[..., :1]
    if image.dtype == np.uint16 and image.max(initial=0) < 256:
        image = image.astype(np.uint8)
    return _sha256(np.ascontiguousarray(image))


def outline_digest(labels: np.ndarray) -> str:
    """Returns the sha256 of the outlines of a label map, independent of its ids; empty without instances.

    Args:
      labels: [H, W] integer.
    """
    if not labels.any():
        return ""
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    bits = np.concatenate([np.packbits(edges) for edges in (labels > 0, down, right)])
    return _sha256(bits.reshape(1, -1, 1), labels.shape)


def perceptual(image: np.ndarray) -> np.ndarray:
    """Returns a perceptual hash of 256 bytes.

    The lowest coefficients of the discrete cosine transform of the mean channel, each multiplied by its
    spatial frequency, so that uneven illumination, which all images of a microscope share, does not dominate.
    Gain, offset, JPEG, noise and size hardly change it; a flip changes signs, a quarter turn also transposes.

    Args:
      image: [H, W, C] of any real type, finite.

    Returns:
      [ORDER, ORDER] int8, of absolute maximum 127; all 0 for a constant image.
    """
    step = int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / MAX_PIXELS)))
    grey = mean_channel(image[::step, ::step])
    # Clip outliers, which would dominate all cells.
    low, high = np.quantile(grey.ravel()[:: -(-grey.size // SAMPLE)], (0.01, 0.99)).astype(np.float32)
    grey = np.clip(grey, low, high) - low
    waves = np.zeros((ORDER, ORDER), np.float32)
    lowest = dct(dct(grey, axis=1)[:, :ORDER], axis=0)[:ORDER]
    waves[: lowest.shape[0], : lowest.shape[1]] = lowest  # fewer if the image is smaller
    waves *= np.hypot(*np.mgrid[:ORDER, :ORDER])
    peak = np.abs(waves).max()
    # A constant image has only rounding errors.
    if high <= low or peak <= 1e-6 * grey.size * (high - low):
        return np.zeros((ORDER, ORDER), np.int8)
    return np.round(waves / peak * 127).astype(np.int8)


class Resemblance(NamedTuple):
    """Which of N images look alike.

    Attributes:
      cluster: [N] integer, equal for images that a chain of similar images connects.
      nearest: [N] int64, the most similar other image, -1 if none is alike.
      score: [N] float32, the similarity to it, at most 1.
      superior: [N] int64, the most similar image of a smaller rank, -1 if none is alike.
      superior_score: [N] float32.
    """

    cluster: np.ndarray
    nearest: np.ndarray
    score: np.ndarray
    superior: np.ndarray
    superior_score: np.ndarray


def resemblance(
    fingerprints: np.ndarray, rank: np.ndarray | None = None, *, threshold: float = ALIKE
) -> Resemblance:
    """Compares all pairs of images under the eight symmetries of a square.

    Args:
      fingerprints: [N, ORDER, ORDER] int8 from `perceptual`.
      rank: [N] integer, for `Resemblance.superior`; all equal if None.
      threshold: the similarity from which two images are alike.
    """
    count = len(fingerprints)
    rank = np.zeros(count, np.int64) if rank is None else rank
    vectors = fingerprints.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=(1, 2), keepdims=True), 1e-6)
    cluster = np.arange(count)
    best = [(np.full(count, -1, np.int64), np.zeros(count, np.float32)) for _ in range(2)]

    def update(scores: np.ndarray, first: int, second: int) -> None:
        above = rank[first : first + len(scores), None] > rank[None, second : second + scores.shape[1]]
        for (partner, score), eligible in zip(best, (scores, np.where(above, scores, 0)), strict=True):
            rows = slice(first, first + len(eligible))
            top = eligible.max(axis=1)
            better = (top >= threshold) & (top > score[rows])
            partner[rows] = np.where(better, second + eligible.argmax(axis=1), partner[rows])
            score[rows] = np.where(better, top, score[rows])

    for first in range(0, count, CHUNK):
        for second in range(first, count, CHUNK):
            scores = _similarity(vectors[first : first + CHUNK], vectors[second : second + CHUNK])
            if first == second:
                np.fill_diagonal(scores, 0)
            if scores.max(initial=0) < threshold:
                continue
            update(scores, first, second)
            if first != second:
                update(scores.T, second, first)
            left, right = np.nonzero(scores >= threshold)
            cluster = _join(cluster, first + left, second + right)
    (nearest, score), (superior, superior_score) = best
    return Resemblance(cluster, nearest, score, superior, superior_score)


def _similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the largest cosine over the eight symmetries of a square, [L, R].

    A flip along an axis negates the odd coefficients along it. So four products, of the coefficients that are
    even or odd along each axis, give the cosines of four symmetries; a transpose gives the other four.
    """
    largest = None
    for turned in (right, right.swapaxes(1, 2)):
        even, odd_x, odd_y, odd = (
            left[:, y::2, x::2].reshape(len(left), -1) @ turned[:, y::2, x::2].reshape(len(right), -1).T
            for y in (0, 1)
            for x in (0, 1)
        )
        score = np.maximum(even + odd + np.abs(odd_x + odd_y), even - odd + np.abs(odd_x - odd_y))
        largest = score if largest is None else np.maximum(largest, score)
    assert largest is not None
    return largest


def _join(cluster: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Merges the clusters of `first[i]` and `second[i]`."""
    count = len(cluster)
    edges = coo_array((np.ones(len(first), bool), (cluster[first], cluster[second])), (count, count))
    return connected_components(edges, directed=False)[1][cluster]


def _sha256(pixels: np.ndarray, shape: tuple[int, ...] = ()) -> str:
    """Returns the digest of [H, W, C] values with their type and shape."""
    head = f"{pixels.dtype.name} {shape or pixels.shape} "
    return hashlib.sha256(head.encode() + pixels.tobytes()).hexdigest()
