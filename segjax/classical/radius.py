"""Radius-based: circles inscribed in the foreground, clustered into cells, grown back to the outline."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from skimage.measure import label
from sklearn.cluster import DBSCAN

from segjax.classical.contrast import contrast, otsu_foreground
from segjax.classical.features import shape
from segjax.classical.stages import Stages
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.segmentation.split_touching import fill_holes

GROWTHS = ("power", "circle")


def radius(
    image: np.ndarray,
    *,
    gamma: float = 0.5,
    sigma: float = 1.0,
    bright: bool | None = None,
    stained: bool | None = None,
    smoothing: float = 1.0,
    min_radius: float = 2.5,
    eps: float = 0.6,
    growth: str = "power",
    alpha: float = 1.6,
    min_area: int = 20,
    max_hole: int = 100,
) -> Stages:
    """Finds cells as clusters of maximal inscribed circles.

    Local maxima of the distance map are the centres of circles that fit into the foreground and not into each
    other. Circles belong to one cell if a chain of neighbours joins them, each at most `eps` of the smaller
    radius away (`cluster_circles`). The largest circle of each cell grows over the foreground
    (`power_diagram`). The composition is our own.

    Args:
      image: [H, W, C] any real type, raw or normalised.
      gamma: of `otsu_foreground`, as `sigma`.
      sigma: see there.
      bright: of `contrast`, as `stained`.
      stained: see there.
      smoothing: standard deviation of the Gaussian that smooths the distance map, pixels.
      min_radius: of a circle, pixels. A part of the foreground that holds none keeps its largest.
      eps: how far apart circles of one cell may be, in units of the smaller radius.
      growth: "power" shares all foreground out; "circle" ends at `alpha` times the radius.
      alpha: see `growth`.
      min_area: instances of fewer pixels go.
      max_hole: holes of up to this many pixels are filled.

    Returns:
      The stages; without any contrast, an empty segmentation.

    Raises:
      InputError: if the image cannot be used, or `growth` is unknown.

    References:
      Ester et al., A density-based algorithm for discovering clusters (1996); Aurenhammer,
      https://doi.org/10.1137/0216006
    """
    if growth not in GROWTHS:
        raise InputError(f"growth={growth!r} is unknown: choose one of {', '.join(GROWTHS)}")
    intensity = contrast(image, bright=bright, stained=stained)
    if intensity is None:
        return Stages.nothing(image.shape[:2])
    foreground = fill_holes(otsu_foreground(intensity, sigma=sigma, gamma=gamma), max_hole)
    distance = ndimage.gaussian_filter(shape.distance(foreground), smoothing) * foreground
    parts = label(foreground, connectivity=2)
    centres = inscribed_circles(distance, parts, min_radius=min_radius)
    radii = distance[tuple(centres.T)]
    of_cell = cluster_circles(centres, radii, eps=eps)
    # The largest circle of each cell: the last of its kind when sorted by radius.
    largest = np.zeros(of_cell.max(initial=-1) + 1, int)
    rising = np.argsort(radii, kind="stable")
    largest[of_cell[rising]] = rising
    centres, radii = centres[largest], radii[largest]
    pixels = np.argwhere(foreground)
    owner, away = power_diagram(pixels, centres, radii, parts[foreground], parts[tuple(centres.T)])
    kept = np.full(len(pixels), True) if growth == "power" else away <= alpha * radii[owner]
    labels = np.zeros(foreground.shape, np.int32)
    labels[tuple(pixels[kept].T)] = owner[kept] + 1
    labels[np.bincount(labels.ravel(), minlength=len(centres) + 1)[labels] < min_area] = 0
    return Stages(
        {"contrast": intensity, "distance": distance},
        foreground,
        centres.astype(float),
        Segmentation.from_labels(labels),
    )


def inscribed_circles(distance: np.ndarray, parts: np.ndarray, *, min_radius: float) -> np.ndarray:
    """Finds the centres of maximal inscribed circles: the local maxima of a distance map.

    Args:
      distance: [H, W] float, pixels; the radius of the circle about each pixel.
      parts: [H, W] int, 0 in the background, else the connected part a pixel belongs to, 1..N.
      min_radius: smaller circles are left out where a part holds a larger one.

    Returns:
      [N, 2] int `(y, x)`, in the order of rows; of each part at least one.
    """
    highest = ndimage.maximum_filter(distance, 3) == distance
    found = highest & (parts > 0) & (distance >= min_radius)
    bare = np.setdiff1d(np.arange(1, parts.max(initial=0) + 1), parts[found])
    if len(bare):
        places = np.array(ndimage.maximum_position(distance, parts, bare), int)
        found[tuple(places.T)] = True
    return np.argwhere(found)


def cluster_circles(centres: np.ndarray, radii: np.ndarray, *, eps: float) -> np.ndarray:
    """Joins circles whose centres are close for their size: DBSCAN with the distance d / min(r, r').

    Args:
      centres: [N, 2] float.
      radii: [N] float, above 0.
      eps: two circles are neighbours at a distance of at most this.

    Returns:
      [N] int, the cluster of each circle, 0..M-1.
    """
    if not len(centres):
        return np.zeros(0, int)
    tree = KDTree(centres)
    # Neighbours lie within eps times either radius, so within that of the first.
    near = tree.query_ball_point(centres, eps * radii)
    first = np.repeat(np.arange(len(centres)), [len(each) for each in near])
    second = np.concatenate([np.asarray(each, int) for each in near])
    apart = np.linalg.norm(centres[first] - centres[second], axis=1) / np.minimum(radii[first], radii[second])
    close = apart <= eps
    graph = csr_array((apart[close], (first[close], second[close])), shape=(len(centres),) * 2)
    return DBSCAN(eps=eps, min_samples=1, metric="precomputed").fit_predict(graph)


def power_diagram(
    points: np.ndarray, centres: np.ndarray, radii: np.ndarray, parts: np.ndarray, of_centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each point to the circle of least power, |p - c|^2 - r^2, within its own part.

    The power is the squared distance in one dimension more, in which circle i lies sqrt(max r^2 - r_i^2) away
    from the points: so a k-d tree finds the least, in a time that hardly depends on the number of circles.
    Still another dimension keeps parts apart.

    Args:
      points: [P, 2].
      centres: [N, 2].
      radii: [N].
      parts: [P] int, the part each point lies in.
      of_centre: [N] int, likewise; every part of a point has a centre.

    Returns:
      [P] int, the circle of each point, and [P] float, the distance to its centre.

    References:
      Aurenhammer, Power diagrams: properties, algorithms and applications, https://doi.org/10.1137/0216006
    """
    if not len(points):
        return np.zeros(0, int), np.zeros(0)
    low = np.minimum(points.min(0), centres.min(0))
    reach = np.sum((np.maximum(points.max(0), centres.max(0)) - low) ** 2) + radii.max() ** 2
    apart = 2 * np.sqrt(reach) + 1
    lift = np.sqrt(np.maximum(radii.max() ** 2 - radii**2, 0))
    lifted = np.column_stack([centres, lift, of_centre * apart])
    asked = np.column_stack([points, np.zeros(len(points)), parts * apart])
    _, owner = KDTree(lifted).query(asked, workers=-1)
    return owner, np.linalg.norm(points - centres[owner], axis=1)
