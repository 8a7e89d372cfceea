"""Measurements of each instance: size, shape, intensity, texture and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree
from skimage.measure import regionprops_table
from skimage.segmentation import find_boundaries

from segjax.errors import InputError
from segjax.segmentation import Segmentation

Table = dict[str, np.ndarray]

# Number of grey levels of the co-occurrence statistics.
LEVELS = 32
# Instances whose outlines are at most this far apart are neighbours, pixels.
NEAR = 8
# Number of rows in which neighbours are searched at a time.
STRIP = 512
# Column name -> scikit-image property name.
SHAPES = {
    "area_px": "area",
    "perimeter_px": "perimeter",
    "diameter_px": "equivalent_diameter_area",
    "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length",
    "eccentricity": "eccentricity",
    "orientation_rad": "orientation",
    "extent": "extent",
    "solidity": "solidity",
}
STATISTICS = ("mean", "std", "min", "max", "median", "gradient", "contrast", "homogeneity")
LENGTHS = ("perimeter", "diameter", "major_axis", "minor_axis", "nearest")


def measure(
    image: np.ndarray,
    segmentation: Segmentation,
    *,
    pixel_size: float | None = None,
    class_names: Sequence[str] | None = None,
    limits: np.ndarray | None = None,
) -> Table:
    """Measures every instance of an image.

    The columns follow. Suffixes are units.

      id, class (and class_name), score;
      centroid_x_px, centroid_y_px; x0_px, y0_px, x1_px, y1_px, the bounding box, with exclusive end;
      area_px, perimeter_px, diameter_px (of the circle with equal area), major_axis_px and minor_axis_px (of
      the ellipse with equal second moments), eccentricity, orientation_rad, extent and solidity, as in
      skimage.measure.regionprops;
      form_factor, 4 pi area / perimeter^2, which is 1 for a disc. It exceeds 1 for instances of a few pixels,
      whose perimeter is underestimated, and is 1 if the perimeter is 0;
      for each channel c, in units of the image: mean_c, std_c, min_c, max_c, median_c and gradient_c (mean
      gradient magnitude);
      for each channel c: contrast_c and homogeneity_c of the grey-level co-occurrence matrix of adjacent
      pixels in the instance, with 32 levels between minimum and maximum of the image;
      touches_border; neighbours, the number of instances whose outlines are at most 8 px away; nearest_px,
      the distance to the nearest other centroid, infinite for a single instance.

    With a pixel size, there are also areas in um2 and lengths in um.

    Args:
      image: [H, W, C] image, any real dtype.
      segmentation: [H, W] segmentation of the image.
      pixel_size: side of a pixel, micrometres.
      class_names: K names, background first; adds the column class_name.
      limits: [2, C] minimum and maximum of each channel of the image of which this is a window; by default
        those of this image.

    Returns:
      Columns of N values, in order of ids.

    Raises:
      InputError: if image and segmentation differ in shape, or the pixel size is not above 0.
    """
    if image.ndim != 3 or image.shape[:2] != segmentation.shape:
        raise InputError(f"the image {image.shape} and its segmentation {segmentation.shape} differ in shape")
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise InputError(f"the pixel size is {pixel_size} micrometres, but must be above 0")
    labels, count = segmentation.labels, segmentation.num_instances
    ids = np.arange(1, count + 1)
    table: Table = {"id": ids, "class": segmentation.classes, "score": segmentation.scores}
    if class_names is not None:
        table["class_name"] = np.array([class_names[index] for index in segmentation.classes], dtype=np.str_)
    properties_table = regionprops_table(labels, properties=("centroid", "bbox", *SHAPES.values()))
    for axis, name in enumerate("yx"):
        table[f"centroid_{name}_px"] = properties_table[f"centroid-{axis}"]
    for index, name in enumerate(("y0", "x0", "y1", "x1")):
        table[f"{name}_px"] = properties_table[f"bbox-{index}"]
    table |= {column: properties_table[prop].astype(np.float64) for column, prop in SHAPES.items()}
    perimeter = table["perimeter_px"]
    roundness = 4 * np.pi * table["area_px"] / np.maximum(perimeter, 1) ** 2
    table["form_factor"] = np.where(perimeter > 0, roundness, 1.0)
    before = None
    for channel in range(image.shape[-1]):
        limit = None if limits is None else (float(limits[0][channel]), float(limits[1][channel]))
        is_first = channel == 0 or limit != before
        if is_first or (image[..., channel] != image[..., channel - 1]).any():
            values = _intensities(image[..., channel], labels, ids, limit)
        before = limit
        table |= {f"{name}_{channel}": column for name, column in values.items()}
    boxes = segmentation.boxes
    table["touches_border"] = (boxes[:, :2] == 0).any(1) | (boxes[:, 2:] == labels.shape[::-1]).any(1)
    table["neighbours"] = count_near(labels, count)
    table["nearest_px"] = nearest_distances(np.column_stack([table["centroid_y_px"], table["centroid_x_px"]]))
    if pixel_size is not None:
        table |= in_micrometres(table, pixel_size)
    return table


def in_micrometres(table: Table, pixel_size: float) -> Table:
    """Returns the columns in micrometres, or square micrometres, of a table in pixels.

    Args:
      table: the measurements.
      pixel_size: side of a pixel in micrometres.
    """
    lengths = {f"{name}_um": table[f"{name}_px"] * pixel_size for name in LENGTHS}
    return {"area_um2": table["area_px"] * pixel_size**2, **lengths}


def _intensities(
    values: np.ndarray, labels: np.ndarray, ids: np.ndarray, limits: tuple[float, float] | None
) -> Table:
    """Returns the `STATISTICS` of one channel [H, W] in each instance."""
    count = len(ids)
    if not count:
        return {name: np.zeros(0) for name in STATISTICS}
    low, high = limits or (float(values.min()), float(values.max()))
    # Only the pixels of instances, sorted by instance and value.
    pixels = np.flatnonzero(labels)
    owner, inside = labels.ravel()[pixels] - 1, values.ravel()[pixels].astype(np.float64)
    area = np.bincount(owner, minlength=count)
    mean = np.bincount(owner, inside, count) / area
    variance = np.bincount(owner, (inside - mean[owner]) ** 2, count) / area
    in_order = inside[np.lexsort((inside, owner))]
    ends = np.cumsum(area)
    starts = ends - area
    by_name = {
        "mean": mean,
        "std": np.sqrt(variance),
        "min": in_order[starts],
        "max": in_order[ends - 1],
        "median": (in_order[starts + (area - 1) // 2] + in_order[starts + area // 2]) / 2,
        "gradient": np.bincount(owner, _slope(values, pixels), count) / area,
    }
    grey = np.floor((inside - low) / max(high - low, 1e-300) * (LEVELS - 1) + 0.5)
    position = np.empty(labels.size, np.int32)
    position[pixels] = np.arange(len(pixels), dtype=np.int32)
    pairs, contrast, homogeneity = (np.zeros(count) for _ in range(3))
    width = labels.shape[1]
    for step, is_last in ((1, pixels % width == width - 1), (width, pixels >= labels.size - width)):
        first = np.flatnonzero(~is_last)
        first = first[labels.ravel()[pixels[first] + step] == owner[first] + 1]
        difference = (grey[position[pixels[first] + step]] - grey[first]) ** 2
        pairs += np.bincount(owner[first], minlength=count)
        contrast += np.bincount(owner[first], difference, count)
        homogeneity += np.bincount(owner[first], 1 / (1 + difference), count)
    by_name["contrast"] = contrast / np.maximum(pairs, 1)
    by_name["homogeneity"] = np.where(pairs > 0, homogeneity / np.maximum(pairs, 1), 1.0)
    return by_name


def _slope(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns the magnitude of the gradient at flat indices of pixels; it is mirrored at the border."""
    padded = np.pad(values, 1, mode="edge")
    width = padded.shape[1]
    centre = pixels + 2 * (pixels // values.shape[1]) + width + 1
    flat = padded.ravel()
    down = flat[centre + width].astype(np.float64) - flat[centre - width]
    along = flat[centre + 1].astype(np.float64) - flat[centre - 1]
    return np.hypot(down, along) / 2


def count_near(labels: np.ndarray, count: int) -> np.ndarray:
    """Counts, for each of the instances 1..`count` of [H, W], the others within `NEAR` pixels."""
    # Padding with background puts pixels at the image border on the outline.
    positions = np.argwhere(find_boundaries(np.pad(labels, 1), mode="inner")[1:-1, 1:-1])
    owner = labels[tuple(positions.T)]
    if not len(positions):
        return np.zeros(count, np.int64)
    parts = []
    # In strips, because most pairs are of one instance, and all at once fill the memory.
    for top in range(0, len(labels), STRIP):
        start, stop = np.searchsorted(positions[:, 0], (top, top + STRIP + NEAR))
        if stop - start > 1:
            pairs = KDTree(positions[start:stop]).query_pairs(NEAR, output_type="ndarray")
            joined = np.sort(owner[start:stop][pairs], axis=1)
            parts.append(np.unique(joined[joined[:, 0] != joined[:, 1]], axis=0))
    joined = np.unique(np.concatenate(parts or [np.zeros((0, 2), np.int32)]), axis=0)
    return np.bincount(joined.ravel(), minlength=count + 1)[1:]


def nearest_distances(centroids: np.ndarray) -> np.ndarray:
    """Returns the distance from each of [N, 2] points to its nearest neighbour."""
    if len(centroids) < 2:
        return np.full(len(centroids), np.inf)
    return KDTree(centroids).query(centroids, k=2)[0][:, 1]
