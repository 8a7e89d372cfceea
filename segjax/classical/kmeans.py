"""K-means segmentation: clusters the features of pixels; the bright clusters are cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.classical.contrast import contrast, otsu_level
from segjax.classical.features import BLOCK, extract
from segjax.classical.scale import at_scale
from segjax.classical.settings import KMeans
from segjax.classical.splitting import split_at_peaks
from segjax.classical.stages import Stages
from segjax.ops import kmeans as clustering
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import background_distance, fill_holes

# Number of pixels that clusters are fitted to; with more, the centres hardly change.
SAMPLE = 2**14
CANDIDATES = (2, 3, 4, 5)


def kmeans(image: np.ndarray, settings: KMeans = KMeans()) -> Stages:
    """Clusters pixels by their standardised features and splits the foreground of bright clusters.

    Clusters are numbered by their mean `contrast`: 0 is the darkest or, in stained tissue, has the least
    haematoxylin. The foreground consists of the clusters with a mean above Otsu's threshold, and at least of
    the brightest one. `split_at_peaks` splits it. The fit uses up to 16,384 pixels on a regular grid.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      settings: see `KMeans`.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used, or a feature does not exist for it.
    """
    intensity = contrast(image, bright=settings.bright, stained=settings.stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    settings = at_scale(settings, intensity)
    intensity = intensity**settings.gamma
    maps, names = extract(image, intensity, settings.features)
    clusters, means = _cluster(maps, intensity, settings)
    if len(means) < 2:
        return Stages.nothing(image.shape[:2])
    bright = settings.foreground_clusters or max(1, int((means > otsu_level(intensity)).sum()))
    foreground = fill_holes(clusters >= len(means) - min(bright, len(means) - 1), settings.max_hole)
    distance = background_distance(foreground)
    labels, seeds, _ = split_at_peaks(distance, foreground, settings)
    named = dict(zip(names, np.moveaxis(maps, -1, 0), strict=True))
    named |= {"cluster": clusters, "distance": distance}
    return Stages(named, foreground, seeds, Segmentation.from_labels(labels))


def _cluster(maps: np.ndarray, intensity: np.ndarray, settings: KMeans) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cluster of each pixel [H, W] int32 and the mean intensities of clusters [K], ascending."""
    height, width, num_features = maps.shape
    step = int(np.ceil(np.sqrt(height * width / SAMPLE)))
    sample = maps[::step, ::step].reshape(-1, num_features)[:SAMPLE]
    mean, spread = sample.mean(0), sample.std(0)
    spread = np.where(spread > 0, spread, 1)
    points = np.zeros((SAMPLE, num_features), np.float32)
    points[: len(sample)] = (sample - mean) / spread
    valid = np.arange(SAMPLE) < len(sample)
    key = jax.random.key(settings.seed)
    count = settings.num_clusters or suggest_clusters(key, points, valid)
    fit = clustering.kmeans(key, points, valid, num_clusters=count, restarts=settings.restarts)
    padded = np.pad(maps, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)))
    clusters = np.asarray(_nearest(jnp.asarray(padded), mean, spread, fit.centres))[:height, :width]
    sizes = np.bincount(clusters.ravel(), minlength=count)
    sums = np.bincount(clusters.ravel(), weights=intensity.ravel(), minlength=count)
    means = sums / np.maximum(sizes, 1)
    # With fewer distinct pixels than clusters, some clusters are empty.
    order = [index for index in np.argsort(means, kind="stable") if sizes[index]]
    rank = np.zeros(count, np.int32)
    rank[order] = np.arange(len(order))
    return rank[clusters], means[order]


@jax.jit
def _nearest(maps: jax.Array, mean: jax.Array, spread: jax.Array, centres: jax.Array) -> jax.Array:
    points = (maps.reshape(-1, maps.shape[-1]) - mean[None]) / spread[None]
    return clustering.assign(points, centres).reshape(maps.shape[:2])


def suggest_clusters(key: jax.Array, points: np.ndarray, valid: np.ndarray) -> int:
    """Returns the number of clusters with the best mean silhouette.

    Args:
      key: PRNG key.
      points: [P, F] float.
      valid: [P] bool.

    Returns:
      The number in `CANDIDATES` with the highest mean silhouette of up to 1,000 points; the first number if
      no silhouette can be computed.

    References:
      Rousseeuw, https://doi.org/10.1016/0377-0427(87)90125-7
    """
    from sklearn.metrics import silhouette_score  # slow to import

    positions = np.flatnonzero(valid)
    positions = positions[np.linspace(0, len(positions) - 1, min(len(positions), 1000)).astype(int)]
    best, top = CANDIDATES[0], -1.0
    for count in CANDIDATES:
        fit = clustering.kmeans(key, points, valid, num_clusters=count)
        assignment = np.asarray(fit.assignment)[positions]
        if 1 < len(np.unique(assignment)) < len(assignment):
            score = float(silhouette_score(points[positions], assignment))
            if score > top:
                best, top = count, score
    return best
