import io

import numpy as np
from PIL import Image

from segjax.report.histograms import bars, histogram


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_same_values_give_the_same_bytes():
    values = {"nucleus": [3.0, 4.0, 400.0], "rod": [1.0]}
    first, second = (histogram(values, title="Size", unit="pixels") for _ in range(2))
    assert first == second
    assert first != histogram({**values, "rod": [2.0]}, title="Size", unit="pixels")


def test_a_kind_has_the_colour_of_its_class():
    drawn = picture(bars({"nucleus": 3, "rod": 5}, title="Classes", colours={"nucleus": 1, "rod": 2}))
    assert (drawn == (230, 159, 0)).all(-1).sum() > 100
    assert (drawn == (86, 180, 233)).all(-1).sum() > 100


def test_nothing_and_equal_values_are_drawn():
    for values in ({}, {"a": []}, {"a": [5.0, 5.0]}):
        assert picture(histogram(values, title="t", unit="u")).shape[-1] == 3
    assert picture(bars({}, title="t")).shape[-1] == 3
