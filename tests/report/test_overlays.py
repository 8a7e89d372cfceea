import numpy as np
import pytest

from segjax.report import overlays
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

NAMES = ("background", "nucleus", "micronucleus")
NUCLEUS, MICRONUCLEUS = (overlays.colour_of(index) for index in (1, 2))


def example():
    labels = np.zeros((12, 20), np.int32)
    labels[2:8, 2:8], labels[2:8, 8:12], labels[9:11, 16:18] = 1, 2, 3
    return Segmentation.from_labels(labels, classes=[1, 1, 2])


def image(channels=1):
    return np.random.default_rng(0).random((12, 20, channels)).astype(np.float32)


def outlined(segmentation):
    return overlays.draw_outlines(overlays.to_display_rgb(image()), segmentation)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_image_can_be_shown(channels, dtype):
    shown = overlays.to_display_rgb((200 * image(channels)).astype(dtype))
    assert shown.shape == (12, 20, 3)
    assert shown.dtype == np.uint8
    assert np.ptp(shown.astype(int)) > 100
    assert (channels == 3) == (shown[..., 0] != shown[..., 1]).any()


def test_a_faint_channel_is_shown_beside_a_bright_one():
    stained = np.zeros((12, 20, 2), np.float32)
    stained[2:5, 2:5, 0], stained[7:10, 7:10, 1] = 1, 4000
    shown = overlays.to_display_rgb(stained)
    assert shown[3, 3, 0] == shown[8, 8, 0] == 128


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_an_image_without_contrast_can_be_shown(value):
    assert not overlays.to_display_rgb(np.full((4, 4, 1), value)).any()


def test_outlines_are_the_inner_rim_in_the_colour_of_the_class():
    shown = overlays.to_display_rgb(image())
    picture = outlined(example())
    assert (picture[2, 2:12] == NUCLEUS).all()
    assert (picture[2:8, [2, 7, 8, 11]] == NUCLEUS).all()  # both sides of where two touch
    assert (picture[9:11, 16:18] == MICRONUCLEUS).all()
    np.testing.assert_array_equal(picture[3:7, 3:7], shown[3:7, 3:7])
    background = example().labels == 0
    np.testing.assert_array_equal(picture[background], shown[background])


def test_thick_lines_stay_inside():
    shown = overlays.to_display_rgb(image())
    picture = overlays.draw_outlines(shown, example(), thickness=2)
    assert (picture[3, 3:7] == NUCLEUS).all()
    np.testing.assert_array_equal(picture[4:6, 4:6], shown[4:6, 4:6])
    np.testing.assert_array_equal(picture[1], shown[1])


def test_classes_without_instances_are_outlined_and_ignored_pixels_greyed_out():
    semantic = np.zeros((12, 20), np.int32)
    semantic[:6, :6] = 2
    semantic[:, 15:] = IGNORE
    smaller = Segmentation.from_labels(np.zeros((12, 20), np.int32), semantic=semantic)
    picture = outlined(smaller)
    assert (picture[5, :6] == MICRONUCLEUS).all()
    shown = overlays.to_display_rgb(image())
    np.testing.assert_array_equal(picture[:5, :5], shown[:5, :5])
    assert picture[:, 15:].std() < 0.5 * shown[:, 15:].std()


def test_a_new_width_keeps_instances_and_their_classes():
    shown, (smaller,) = overlays.resized(image(), [example()], 40)
    assert shown.shape == (24, 40, 3)
    assert smaller.shape == (24, 40)
    np.testing.assert_array_equal(smaller.labels[::2, ::2], example().labels)
    # Made small, the first instance is lost; the others keep what they are.
    labels = np.where(example().labels == 3, 0, example().labels + (example().labels > 0))
    labels[11, 19] = 1
    lost = Segmentation.from_labels(labels, classes=[1, 2, 1])
    assert overlays.resized(image(), [lost], 5)[1][0].classes.tolist() == [2, 1]


def test_the_legend_shows_the_colour_of_every_class_and_breaks_lines():
    wide = overlays.legend(np.zeros((10, 400, 3), np.uint8), NAMES)
    narrow = overlays.legend(np.zeros((10, 60, 3), np.uint8), NAMES)
    assert wide.shape[0] < narrow.shape[0]
    for picture in (wide, narrow):
        colours = {tuple(colour) for colour in picture[10:].reshape(-1, 3).tolist()}
        assert {NUCLEUS, MICRONUCLEUS} <= colours


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        overlays.draw_outlines(overlays.to_display_rgb(image()[:5]), example())
