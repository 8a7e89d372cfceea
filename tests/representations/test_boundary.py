import numpy as np

from segjax.representations import REPRESENTATIONS, DecoderConfig
from tests.data.test_targets import ODD

BOUNDARY = REPRESENTATIONS["boundary"]


def test_by_hand():
    labels = np.zeros((5, 9), np.int32)
    labels[1:4, 1:4], labels[1:4, 4:8] = 1, 2
    expected = labels > 0
    expected[2, 2] = expected[2, 5:7] = False
    np.testing.assert_array_equal(BOUNDARY.encode(labels), expected)
    decoded = BOUNDARY.decode(labels > 0, BOUNDARY.encode(labels), DecoderConfig())
    assert len(np.unique(decoded[decoded > 0])) == 2


def test_the_border_of_the_image_is_no_boundary():
    assert not BOUNDARY.encode(ODD["all of the image"]).any()


def test_the_threshold_is_the_probability_of_a_boundary():
    labels = np.zeros((9, 20), np.int32)
    labels[1:8, 1:10], labels[1:8, 10:19] = 1, 2
    faint = 0.4 * BOUNDARY.encode(labels)
    for threshold, expected in ((0.3, 2), (0.5, 1)):
        decoded = BOUNDARY.decode(labels > 0, faint, DecoderConfig(threshold=threshold))
        assert len(np.unique(decoded[decoded > 0])) == expected
