import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from segjax.segmentation.split_touching import background_distance, peaks, split_touching

Y, X = np.mgrid[-32:33, -32:33].astype(np.float32)
RADIUS = np.hypot(Y, X)


def test_distance_is_exact():
    foreground = RADIUS < 20
    np.testing.assert_allclose(background_distance(foreground), ndimage.distance_transform_edt(foreground))
    # Parts in the bounding boxes of others, and at the image border.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = ndimage.gaussian_filter(rng.normal(size=(40, 30)), 1.5) > rng.uniform(-0.1, 0.1)
        np.testing.assert_array_equal(background_distance(noise), ndimage.distance_transform_edt(noise))
    row = np.array([[0, 1, 1, 1, 1, 0, 1]], bool)
    np.testing.assert_array_equal(background_distance(row), [[0, 1, 2, 2, 1, 0, 1]])
    assert not background_distance(np.ones((3, 4), bool)).any()
    assert not background_distance(np.zeros((3, 4), bool)).any()


def noisy(seed):
    """A foreground [40, 30] of several connected parts with many peaks."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 30)), 1.5) > 0


def test_peaks_are_the_regional_maxima_of_one_reconstruction_of_the_image():
    for seed in range(20):
        foreground = noisy(seed)
        distance = ndimage.distance_transform_edt(foreground)
        heights = np.pad(distance - 9 * ~foreground, 1, constant_values=-9)
        maxima = local_maxima(reconstruction(heights - 0.5, heights), connectivity=2)[1:-1, 1:-1]
        np.testing.assert_array_equal(peaks(distance, foreground, 0.5) > 0, maxima)


def test_the_watershed_is_that_of_the_image_where_no_pixels_tie():
    for seed in range(20):
        foreground = noisy(seed)
        distance = np.random.default_rng(seed).normal(size=foreground.shape)
        markers = peaks(distance, foreground, 0.5)
        expected = watershed(-distance, markers, mask=foreground, connectivity=2)
        labels = split_touching(foreground, distance, smoothing=0, h=0.5, min_area=1)
        pairs = np.unique(np.stack([expected[foreground], labels[foreground]]), axis=1)
        assert pairs.shape[1] == expected.max() == labels.max()


def test_connected_parts_do_not_affect_each_other_where_pixels_tie():
    for seed in range(20):
        both = np.zeros((40, 80), bool)
        both[:, :30], both[:, 40:70] = noisy(seed), noisy(seed + 100)
        is_seed = np.random.default_rng(seed).random(both.shape) < 0.05
        seeds = np.cumsum(is_seed).reshape(both.shape) * is_seed
        together, alone = (
            split_touching(both[:, :width], np.ones((40, width)), seeds=seeds[:, :width], min_area=1)[:, :35]
            for width in (80, 35)
        )
        pairs = np.unique(np.stack([together.ravel(), alone.ravel()]), axis=1)
        assert pairs.shape[1] == alone.max() + 1
