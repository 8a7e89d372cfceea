import numpy as np
import pytest

from segjax.data.records import Record
from segjax.segmentation import Segmentation


def test_refuses_a_truth_of_another_size_and_other_types():
    truth = Segmentation.empty((3, 4))
    with pytest.raises(ValueError, match=r"img7: the image is \(4, 3\) but its truth \(3, 4\); export"):
        Record("img7", "g", np.zeros((4, 3, 1), np.uint8), truth)
    for bad in (np.zeros((3, 4), np.uint8), np.zeros((3, 4, 1), np.float64)):
        with pytest.raises(ValueError, match="img7: an image is"):
            Record("img7", "g", bad, truth)
