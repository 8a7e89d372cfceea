"""K-means segmentation: clusters pixel features; the bright clusters are cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.metrics import silhouette_score

from segjax.classical.contrast import contrast
from segjax.classical.features import BLOCK, HAND_MADE, hand_made_of
from segjax.classical.stages import Stages
from segjax.classical.watershed import centres
from segjax.errors import InputError
from segjax.ops import kmeans as clustering
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import background_distance, fill_holes, peaks, split_touching

# Number of pixels to fit clusters to; more change a centre by less than its own spread.
SAMPLE = 2**14
CANDIDATES = (2, 3, 4, 5)


def kmeans(
    image: np.ndarray,
    *,
    num_clusters: int | None = 3,
    foreground_clusters: int | None = None,
    restarts: int = 4,
    seed: int = 0,
    gamma: float = 0.5,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 1.0,
    h: float = 0.75,
    min_area: int = 20,
    max_hole: int = 0,
) -> Stages:
    """Clusters pixels by the seven maps of `hand_made`, each standardised, and splits the bright clusters.

    Clusters are numbered by brightness: 0 is the darkest in `contrast`, which in stained tissue means the
    least haematoxylin. The foreground is all clusters with a mean above Otsu's threshold, at least the
    brightest one. `split_touching` splits it. Clusters are fitted to up to 16,384 pixels
    evenly spread over the image.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      num_clusters: K; None calls `suggest_clusters`. Images with fewer distinct pixels get fewer clusters.
      foreground_clusters: number of brightest clusters that form the foreground; None uses the rule above.
      restarts: number of random initialisations.
      seed: seed of the random number generator.
      gamma: exponent of the contrast; below 1, dim cells stand out more.
      bright: whether cells are brighter than the background; None decides automatically, see `contrast`.
      stained: whether the image shows stained tissue; None decides automatically, see `contrast`.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      h: height of the h-maxima used as seeds, pixels; see `peaks`.
      min_area: smallest instance to keep, pixels.
      max_hole: largest hole to fill, pixels.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used, or the numbers of clusters make no sense.
    """
    if num_clusters is not None and num_clusters < 2:
        raise InputError(f"num_clusters is {num_clusters}, but a foreground and a background make at least 2")
    if foreground_clusters is not None and not 1 <= foreground_clusters < (num_clusters or np.inf):
        raise InputError(
            f"foreground_clusters is {foreground_clusters}: at least 1 and below num_clusters={num_clusters}"
        )
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    intensity = intensity**gamma
    maps = hand_made_of(intensity)
    height, width = intensity.shape
    step = int(np.ceil(np.sqrt(height * width / SAMPLE)))
    sample = maps[::step, ::step].reshape(-1, len(HAND_MADE))[:SAMPLE]
    mean, spread = sample.mean(0), sample.std(0)
    spread = np.where(spread > 0, spread, 1)
    points = np.zeros((SAMPLE, len(HAND_MADE)), np.float32)
    points[: len(sample)] = (sample - mean) / spread
    valid = np.arange(SAMPLE) < len(sample)
    key = jax.random.key(seed)
    if num_clusters is None:
        num_clusters = suggest_clusters(key, points, valid)
    fit = clustering.kmeans(key, points, valid, num_clusters=num_clusters, restarts=restarts)
    # With fewer distinct pixels than clusters, some clusters are empty.
    clusters = _assign_all(maps, mean, spread, fit.centres)
    sizes = np.bincount(clusters.ravel(), minlength=num_clusters)
    sums = np.bincount(clusters.ravel(), weights=intensity.ravel(), minlength=num_clusters)
    order = [index for index in np.argsort(sums / np.maximum(sizes, 1), kind="stable") if sizes[index]]
    rank = np.zeros(num_clusters, np.int32)
    rank[order] = np.arange(len(order))
    clusters = rank[clusters]
    if foreground_clusters is None:
        level = threshold_otsu(intensity) if intensity.min() < intensity.max() else np.inf
        means = (sums / np.maximum(sizes, 1))[order]
        foreground_clusters = max(1, int((means > level).sum()))
    if len(order) < 2:
        return Stages.nothing(image.shape[:2])
    foreground = fill_holes(clusters >= len(order) - min(foreground_clusters, len(order) - 1), max_hole)
    distance = background_distance(foreground)
    markers = peaks(ndimage.gaussian_filter(distance, smoothing), foreground, h)
    labels = split_touching(foreground, distance, seeds=markers, smoothing=smoothing, min_area=min_area)
    named = {name: maps[..., index] for index, name in enumerate(HAND_MADE)}
    return Stages(
        named | {"cluster": clusters, "distance": distance},
        foreground,
        centres(markers),
        Segmentation.from_labels(labels),
    )


def suggest_clusters(
    key: jax.Array, points: np.ndarray, valid: np.ndarray, *, candidates: tuple[int, ...] = CANDIDATES
) -> int:
    """Returns the number of clusters with the best mean silhouette.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool.
      candidates: numbers of clusters, each at least 2.

    Returns:
      The candidate with the greatest mean silhouette of up to 1,000 points; the first if none can be scored.

    References:
      Rousseeuw, https://doi.org/10.1016/0377-0427(87)90125-7
    """
    positions = np.flatnonzero(valid)
    positions = positions[np.linspace(0, len(positions) - 1, min(len(positions), 1000)).astype(int)]
    best, top = candidates[0], -1.0
    for count in candidates:
        fit = clustering.kmeans(key, points, valid, num_clusters=count)
        assignment = np.asarray(fit.assignment)[positions]
        if 1 < len(np.unique(assignment)) < len(assignment):
            score = float(silhouette_score(points[positions], assignment))
            if score > top:
                best, top = count, score
    return best


@jax.jit
def _nearest(maps: jax.Array, mean: jax.Array, spread: jax.Array, centres: jax.Array) -> jax.Array:
    points = (maps.reshape(-1, maps.shape[-1]) - mean[None]) / spread[None]
    return clustering.assign(points, centres).reshape(maps.shape[:2])


def _assign_all(maps: np.ndarray, mean: np.ndarray, spread: np.ndarray, centres: jax.Array) -> np.ndarray:
    height, width, _ = maps.shape
    padded = np.pad(maps, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)))
    return np.asarray(_nearest(jnp.asarray(padded), mean, spread, centres))[:height, :width]
