import numpy as np
from scipy import ndimage

from segjax.segmentation.split_touching import background_distance

Y, X = np.mgrid[-32:33, -32:33].astype(np.float32)
RADIUS = np.hypot(Y, X)


def test_distance_is_exact():
    foreground = RADIUS < 20
    np.testing.assert_allclose(background_distance(foreground), ndimage.distance_transform_edt(foreground))
    row = np.array([[0, 1, 1, 1, 1, 0, 1]], bool)
    np.testing.assert_array_equal(background_distance(row), [[0, 1, 2, 2, 1, 0, 1]])
    assert not background_distance(np.ones((3, 4), bool)).any()
    assert not background_distance(np.zeros((3, 4), bool)).any()
