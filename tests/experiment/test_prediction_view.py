"""Resolutions and coordinates of large images."""

from pathlib import Path

import numpy as np
import pytest

from segjax.data.readers.lazy import Pyramid
from segjax.experiment.prediction_view import View, open_view
from tests.data.test_lazy import Array


def pyramid(*shapes):
    """An image whose levels have these shapes `(H, W)`, of 0.5 micrometres per pixel."""
    levels = tuple(Array(np.broadcast_to(np.uint8(0), (*shape, 1))) for shape in shapes)
    return Pyramid(Path("a.tif"), levels, 0.5, lambda: None)


def opened(image, **view):
    return open_view(image, View(**view), pixel_size=None, selected=(), channels=None)


LONG = [(101, 12000), (50, 6000), (25, 3000), (12, 1500)]
LEVELS = {
    "rows are cut off": (pyramid(*LONG), 3, 8.0),
    "columns are cut off": (pyramid(*(shape[::-1] for shape in LONG)), 3, 8.0),
    "rows are added": (pyramid((101, 12000), (13, 1500)), 1, 8.0),
    "columns of both": (pyramid((1003, 1999), (250, 499)), 1, 4.0),
    "no whole number": (pyramid((1000, 2000), (400, 800)), 1, 2.5),
    "no whole number, rounded": (pyramid((101, 2000), (40, 800)), 1, 2.5),
    "the finest": (pyramid(*LONG), 0, 1.0),
}


@pytest.mark.parametrize("name", LEVELS)
def test_pixels_of_a_level_have_the_side_that_both_lengths_state(name):
    image, level, side = LEVELS[name]
    viewed = opened(image, level=level)
    assert viewed.level.shape[:2] == image.levels[level].shape[:2]
    assert viewed.to_file == side
    assert viewed.pixel_size == 0.5 * side


@pytest.mark.parametrize(("mpp", "rescaled"), [(0.77, True), (4.5, True), (4.0, False)])
def test_pixels_of_a_rescaled_image_have_the_side_that_was_asked_for(mpp, rescaled):
    viewed = opened(pyramid(*LONG), mpp=mpp)
    assert viewed.pixel_size == pytest.approx(mpp, rel=1e-12)
    assert viewed.to_file == pytest.approx(mpp / 0.5, rel=1e-12)
    assert (viewed.level.dtype == np.float32) == rescaled
    # The last column is where the image ends.
    assert viewed.level.shape[1] * viewed.to_file == pytest.approx(12000, abs=viewed.to_file / 2)
