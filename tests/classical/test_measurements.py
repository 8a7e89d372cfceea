import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.measure import regionprops

from segjax.classical import measurements
from segjax.classical.measurements import LEVELS, measure
from segjax.errors import InputError
from segjax.segmentation import Segmentation
from tests.classical.cells import discs

rng = np.random.default_rng(0)
LABELS = np.zeros((80, 90), np.int32)
for number, circle in enumerate([(15, 15, 9), (15, 33, 8), (50, 20, 12), (60, 70, 14), (5, 80, 7)], start=1):
    LABELS[discs(LABELS.shape, circle)] = number
LABELS[70, 5] = 6  # a single pixel
LABELS[75, 5:9] = 7  # a line
TRUTH = Segmentation.from_labels(LABELS, classes=[1, 1, 2, 1, 1, 2, 2])
IMAGE = rng.integers(0, 4000, (80, 90, 2)).astype(np.uint16)
TABLE = measure(IMAGE, TRUTH, pixel_size=0.5, class_names=("background", "nucleus", "debris"))

SHARED = {
    "id": "label",
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


def test_every_shared_column_is_that_of_scikit_image():
    regions = regionprops(LABELS, IMAGE)
    for name, prop in SHARED.items():
        np.testing.assert_allclose(TABLE[name], [getattr(region, prop) for region in regions], err_msg=name)
    for axis, name in enumerate("yx"):
        np.testing.assert_allclose(TABLE[f"centroid_{name}_px"], [r.centroid[axis] for r in regions])
    for index, name in enumerate(("y0", "x0", "y1", "x1")):
        np.testing.assert_array_equal(TABLE[f"{name}_px"], [r.bbox[index] for r in regions])
    for channel in range(2):
        for column, prop in (("mean", "mean"), ("min", "min"), ("max", "max"), ("std", "std")):
            expected = [getattr(region, f"intensity_{prop}")[channel] for region in regions]
            np.testing.assert_allclose(TABLE[f"{column}_{channel}"], expected, rtol=1e-6, err_msg=column)
        expected = [np.median(region.image_intensity[region.image][:, channel]) for region in regions]
        np.testing.assert_allclose(TABLE[f"median_{channel}"], expected)


def test_texture_counts_pairs_within_the_instance():
    values = IMAGE[..., 1].astype(float)
    grey = np.floor((values - values.min()) / (values.max() - values.min()) * (LEVELS - 1) + 0.5)
    differences = []
    for y, x in np.argwhere(LABELS == 2):
        for other in ((y, x + 1), (y + 1, x)):
            if LABELS[other] == 2:
                differences.append((grey[y, x] - grey[other]) ** 2)
    assert TABLE["contrast_1"][1] == pytest.approx(np.mean(differences))
    assert TABLE["homogeneity_1"][1] == pytest.approx(np.mean(1 / (1 + np.array(differences))))
    assert TABLE["homogeneity_1"][5] == 1  # no pair in a single pixel


def test_neighbours_and_nearest(monkeypatch):
    outlines = [np.argwhere(index == LABELS) for index in range(1, 8)]
    expected = [sum(a is not b and cdist(a, b).min() <= 8 for b in outlines) for a in outlines]
    assert TABLE["neighbours"].tolist() == expected
    assert max(expected) > 0
    monkeypatch.setattr(measurements, "STRIP", 5)
    assert measure(IMAGE, TRUTH)["neighbours"].tolist() == expected
    centroids = np.array([outline.mean(0) for outline in outlines])
    apart = cdist(centroids, centroids)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(TABLE["nearest_px"], apart.min(0))
    assert TABLE["touches_border"].tolist() == [False, False, False, False, True, False, False]


def test_lengths_and_areas_in_micrometres():
    np.testing.assert_allclose(TABLE["area_um2"], TABLE["area_px"] / 4)
    np.testing.assert_allclose(TABLE["diameter_um"], TABLE["diameter_px"] / 2)
    assert not any(name.endswith("um") for name in measure(IMAGE, TRUTH))
    assert TABLE["class_name"].tolist()[:3] == ["nucleus", "nucleus", "debris"]


def test_every_number_is_finite_for_the_smallest():
    for name, column in TABLE.items():
        assert len(column) == 7
        if column.dtype.kind == "f":
            assert np.isfinite(column).all(), name
    assert TABLE["form_factor"][5] == 1
    assert TABLE["form_factor"][3] == pytest.approx(1, abs=0.12)


def test_no_instance_makes_an_empty_table():
    nothing = measure(IMAGE, Segmentation.empty((80, 90)), pixel_size=0.5, class_names=("background",))
    assert list(nothing) == list(TABLE)
    assert all(len(column) == 0 for column in nothing.values())
    alone = measure(IMAGE, Segmentation.from_labels((LABELS == 3).astype(int)))
    assert alone["nearest_px"].tolist() == [np.inf]


def test_says_what_does_not_fit():
    with pytest.raises(InputError, match="differ in shape"):
        measure(IMAGE[:10], TRUTH)
    with pytest.raises(InputError, match="must be above 0"):
        measure(IMAGE, TRUTH, pixel_size=0)


def test_equal_channels_of_a_window_have_their_own_limits():
    # The channels differ outside of the window.
    window = np.repeat(IMAGE[..., :1], 2, axis=-1)
    limits = np.array([[0, 0], [4000, 8000]])
    table = measure(window, TRUTH, limits=limits)
    alone = measure(window[..., :1], TRUTH, limits=limits[:, 1:])
    for name in alone:
        if name.endswith("_0"):
            np.testing.assert_array_equal(table[f"{name[:-2]}_1"], alone[name], err_msg=name)
