"""Arrays of any type that the Python interface takes."""

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.experiment.methods import OpenedMethod
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import connected_parts


def bright(image):
    assert image.dtype in (np.uint8, np.uint16, np.float32)
    return Segmentation.from_labels(connected_parts(image[..., 0] > image.mean()))


OPENED = OpenedMethod(bright, ("background", "cell"))
IMAGE = np.zeros((20, 20), np.uint8)
IMAGE[2:8, 2:8] = IMAGE[10:18, 3:9] = 1


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">u2", np.int64, np.float16, np.float64])
def test_every_type_of_number_is_segmented(dtype):
    assert OPENED(IMAGE.astype(dtype)).num_instances == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.where(IMAGE, np.nan, 0.0), "holds NaN or infinite pixels"),
        (np.where(IMAGE, np.inf, 0.0), "holds NaN or infinite pixels"),
        (np.zeros((0, 5)), r"has the shape \(0, 5\): give one with pixels"),
        (np.zeros((5, 5), complex), "is complex128 of shape"),
        (np.zeros(5), "of shape"),
    ],
)
def test_what_is_no_image_is_said(image, message):
    with pytest.raises(InputError, match=message):
        OPENED(image)
