"""Radius-based segmentation: inscribed circles, clustered into cells and grown back to the outline."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from skimage.measure import label

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.scale import at_scale
from segjax.classical.settings import Radius
from segjax.classical.splitting import circle_centres, smooth_distance
from segjax.classical.stages import Stages
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import remove_small


def radius(image: np.ndarray, settings: Radius = Radius()) -> Stages:
    """Segments cells as clusters of inscribed circles.

    Local maxima of the distance map are the centres of the inscribed circles. Two circles are neighbours if
    their centres are at most `eps` times the smaller radius apart; chains of neighbours form a cell
    (`cluster_circles`). The largest circle of each cell grows over the foreground
    (`power_diagram`). This combination of steps is specific to segjax.

    Args:
      image: [H, W, C] image, any real dtype, raw or normalised.
      settings: see `Radius`.

    Returns:
      The stages. The segmentation is empty if the image has no contrast.

    Raises:
      InputError: if the image cannot be used.

    References:
      Ester et al., A density-based algorithm for discovering clusters (1996); Aurenhammer,
      https://doi.org/10.1137/0216006
    """
    intensity = contrast(image, bright=settings.bright, stained=settings.stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    settings = at_scale(settings, intensity)
    foreground = otsu_foreground(intensity, settings, sigma=settings.sigma)
    distance = smooth_distance(foreground, settings.smoothing)
    parts = label(foreground, connectivity=2)
    centres = inscribed_circles(distance, parts, min_radius=settings.min_radius)
    radii = distance[tuple(centres.T)]
    cell_index = cluster_circles(centres, radii, eps=settings.eps)
    # Select the largest circle of each cell: sorted by radius, the last assignment wins.
    largest = np.zeros(cell_index.max(initial=-1) + 1, int)
    rising = np.argsort(radii, kind="stable")
    largest[cell_index[rising]] = rising
    centres, radii = centres[largest], radii[largest]
    pixels = np.argwhere(foreground)
    owner, distances = power_diagram(pixels, centres, radii, parts[foreground], parts[tuple(centres.T)])
    selected = np.full(len(pixels), True)
    if settings.growth == "circle":
        selected = distances <= settings.alpha * radii[owner]
    labels = np.zeros(foreground.shape, np.int32)
    labels[tuple(pixels[selected].T)] = owner[selected] + 1
    segmentation = Segmentation.from_labels(remove_small(labels, settings.min_area))
    named = {"contrast": intensity, "distance": distance}
    return Stages(named, foreground, centres.astype(float), segmentation)


def inscribed_circles(distance: np.ndarray, parts: np.ndarray, *, min_radius: float) -> np.ndarray:
    """Finds the centres of maximal inscribed circles, the local maxima of a distance map.

    Args:
      distance: [H, W] float, pixels; the radius of the circle about each pixel.
      parts: [H, W] int, connected components 1..M of the foreground, 0 in the background.
      min_radius: smallest circle, pixels; a component with only smaller circles keeps its largest.

    Returns:
      [N, 2] int `(y, x)`, in row order; at least one per component.
    """
    is_centre = circle_centres(distance, min_radius=min_radius) & (parts > 0)
    without_centre = np.setdiff1d(np.arange(1, parts.max(initial=0) + 1), parts[is_centre])
    if len(without_centre):
        positions = np.array(ndimage.maximum_position(distance, parts, without_centre), int)
        is_centre[tuple(positions.T)] = True
    return np.argwhere(is_centre)


def cluster_circles(centres: np.ndarray, radii: np.ndarray, *, eps: float) -> np.ndarray:
    """Clusters circles that are close relative to their radii: DBSCAN with the distance d / min(r, r').

    Args:
      centres: [N, 2] float.
      radii: [N] float, above 0.
      eps: largest distance between neighbouring circles, in units of the smaller radius.

    Returns:
      [N] int, the cluster of each circle, 0..M-1.
    """
    from sklearn.cluster import DBSCAN  # slow to import

    if not len(centres):
        return np.zeros(0, int)
    tree = KDTree(centres)
    # A neighbour is within eps times the smaller radius, hence within eps times the first radius.
    near = tree.query_ball_point(centres, eps * radii)
    first = np.repeat(np.arange(len(centres)), [len(each) for each in near])
    second = np.concatenate([np.asarray(each, int) for each in near])
    smaller = np.minimum(radii[first], radii[second])
    distances = np.linalg.norm(centres[first] - centres[second], axis=1) / smaller
    close = distances <= eps
    graph = csr_array((distances[close], (first[close], second[close])), shape=(len(centres),) * 2)
    return DBSCAN(eps=eps, min_samples=1, metric="precomputed").fit_predict(graph)


def power_diagram(
    points: np.ndarray, centres: np.ndarray, radii: np.ndarray, parts: np.ndarray, centre_parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Assigns each point to the circle of least power, |p - c|^2 - r^2, in its connected component.

    Up to a constant, the power is a squared distance in one extra dimension, where circle i has the
    coordinate sqrt(max r^2 - r_i^2). A k-d tree finds the minimum in nearly constant time per point. Another
    dimension separates the components.

    Args:
      points: [P, 2].
      centres: [N, 2] circle centres.
      radii: [N] circle radii.
      parts: [P] int, component of each point.
      centre_parts: [N] int, component of each centre; every component with points must have a centre.

    Returns:
      [P] int, the circle of each point, and [P] float, the distance to its centre.

    References:
      Aurenhammer, Power diagrams: properties, algorithms and applications, https://doi.org/10.1137/0216006
    """
    if not len(points):
        return np.zeros(0, int), np.zeros(0)
    low = np.minimum(points.min(0), centres.min(0))
    extent = np.sum((np.maximum(points.max(0), centres.max(0)) - low) ** 2) + radii.max() ** 2
    gap = 2 * np.sqrt(extent) + 1
    lift = np.sqrt(np.maximum(radii.max() ** 2 - radii**2, 0))
    lifted = np.column_stack([centres, lift, centre_parts * gap])
    queries = np.column_stack([points, np.zeros(len(points)), parts * gap])
    _, owner = KDTree(lifted).query(queries, workers=-1)
    return owner, np.linalg.norm(points - centres[owner], axis=1)
