import numpy as np

from segjax.classical.stages import Stages
from segjax.report.stages import SEED, busiest, draw_stages
from segjax.segmentation import Segmentation


def test_draws_every_stage():
    image = np.zeros((40, 60, 1), np.uint8)
    image[10:20, 10:30] = 200
    labels = (image[..., 0] > 0).astype(np.int32)
    ramp = np.tile(np.linspace(-3, 5, 60), (40, 1))
    stages = Stages(
        {"ramp": ramp, "flat": np.full((40, 60), 7.0)},
        labels > 0,
        np.array([[14.6, 20.2]]),
        Segmentation.from_labels(labels),
    )
    pictures = dict(draw_stages(image, stages))
    assert list(pictures) == ["ramp", "flat", "foreground", "1 seeds", "1 instances"]
    assert all(picture.shape == (40, 60, 3) and picture.dtype == np.uint8 for picture in pictures.values())
    assert pictures["ramp"][0, 0, 0] == 0
    assert pictures["ramp"][0, -1, 0] == 255
    assert (pictures["flat"] == 0).all()
    assert pictures["foreground"][15, 15, 0] == 255
    assert tuple(pictures["1 seeds"][15, 20]) == SEED
    assert (pictures["1 seeds"] == np.array(SEED)).all(-1).sum() == 13


def test_shows_where_most_cells_are():
    foreground = np.zeros((300, 1000), bool)
    foreground[10:200, 700:900] = True
    rows, columns = busiest(foreground)
    assert foreground[rows, columns].sum() == foreground.sum()
    assert (rows.stop - rows.start, columns.stop - columns.start) == (256, 256)
    assert busiest(np.zeros((5, 7), bool)) == (slice(0, 5), slice(0, 7))
    image = np.zeros((300, 1000, 1), np.uint8)
    pictures = draw_stages(image, Stages.nothing((300, 1000)), window=(rows, columns))
    assert {picture.shape for _, picture in pictures} == {(256, 256, 3)}


def test_nothing_can_be_drawn():
    nothing = Stages.nothing((8, 9))
    pictures = dict(draw_stages(np.zeros((8, 9, 3), np.float32), nothing))
    assert list(pictures) == ["foreground", "0 seeds", "0 instances"]
