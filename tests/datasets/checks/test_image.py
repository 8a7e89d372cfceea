import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segjax.datasets.checks.findings import KINDS, is_excluded
from segjax.datasets.checks.image import check_image
from segjax.datasets.formats import RawAnnotation
from segjax.typing import IGNORE
from tests.datasets.checks.planted import NUM_CLASSES, healthy, kinds, raw, squares

IMAGE = healthy(size=64)[0]


def check(image, annotation, **options):
    return check_image(image, annotation, num_classes=NUM_CLASSES, **options)


def of(labels, **fields):
    """What is found in a drawing on a healthy image."""
    return check(IMAGE, RawAnnotation(labels, **fields))


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (1, 16), (3, 8), (2, 16)])
def test_healthy_images_are_left_alone(channels, bits):
    for seed in range(6):
        image, truth = healthy(seed, channels=channels, bits=bits)
        examined = check(image, raw(truth))
        # A cell that lies across another leaves it in pieces; nothing else may be found.
        assert set(kinds(examined.findings)) <= {"disconnected_instances", "fragments"}
        if not examined.findings:
            np.testing.assert_array_equal(examined.truth.labels, truth.labels)
            np.testing.assert_array_equal(examined.truth.classes, truth.classes)
            np.testing.assert_array_equal(examined.truth.semantic, truth.semantic)
    assert not of(squares()).findings


def test_floats_are_examined_too():
    assert not check(IMAGE.astype(np.float32) - 500, RawAnnotation(squares())).findings


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("constant", lambda image: np.full_like(image, 7)),
        ("low_contrast", lambda image: (image > np.median(image)).astype(np.uint16) + 100),
        ("blurred", lambda image: ndimage.gaussian_filter(image, (8, 8, 0))),
        ("saturated", lambda image: np.where(squares()[..., None] > 0, 65535, image)),
        ("saturated", lambda image: np.minimum(image.astype(float) * 8, 4095).astype(np.uint16)),
        ("not_finite", lambda image: np.where(image == image.max(), np.nan, image.astype(np.float32))),
        ("not_finite", lambda image: np.where(image == image.max(), np.inf, image.astype(np.float32))),
    ],
)
def test_damaged_pixels_are_found(kind, damage):
    examined = check(damage(IMAGE), RawAnnotation(squares()))
    assert kind in kinds(examined.findings)
    assert (examined.truth is None) == (KINDS[kind].action == "quarantine")


def test_a_white_background_is_not_overexposed():
    labels = squares()
    bright_field = np.where(labels[..., None] > 0, IMAGE // 512, 255).astype(np.uint8)
    assert "saturated" not in kinds(check(bright_field, RawAnnotation(labels)).findings)


def test_images_of_no_pixels_are_found():
    examined = check(np.zeros((0, 5, 1), np.uint8), RawAnnotation(np.zeros((0, 5), np.int32)))
    assert "no_pixels" in kinds(examined.findings)
    assert examined.truth is None


def test_tiny_images_are_examined():
    image = np.arange(9, dtype=np.uint8).reshape(3, 3, 1) * 20
    assert check(image, RawAnnotation(np.eye(3, dtype=np.int32))).truth.num_instances == 1


def compressed(labels):
    file = io.BytesIO()
    Image.fromarray((labels * 15).astype(np.uint8)).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file)).astype(np.int32)


@pytest.mark.parametrize(
    ("kind", "labels", "fields"),
    [
        ("size_mismatch", squares(32), {}),
        ("lossy_mask", compressed(squares()), {"lossy": True}),
        ("lossy_mask", compressed(squares()), {}),
        ("binary_mask", (squares() > 0).astype(np.int32), {"binary": True}),
        ("binary_mask", (squares() > 0).astype(np.int32) * 255, {}),
        ("invalid_ids", squares() - 1, {}),
        ("invalid_class", squares(), {"classes": {3: NUM_CLASSES}}),
        ("invalid_class", squares(), {"classes": {3: 0}}),
        ("empty_mask", np.zeros((64, 64), np.int32), {}),
        ("inverted_mask", (squares() == 0).astype(np.int32), {}),
    ],
)
def test_misleading_masks_exclude_the_image(kind, labels, fields):
    examined = of(labels, **fields)
    assert kinds(examined.findings) == [kind]
    assert examined.truth is None
    assert KINDS[kind].action == "quarantine"


def test_the_detail_names_values():
    assert of(squares(32)).findings[0].detail == "the mask is 32 x 32, the image 64 x 64"
    assert of(squares() - 1).findings[0].detail == "the smallest id is -1"


def test_what_a_user_accepts_stays():
    nothing = np.zeros((64, 64), np.int32)
    examined = check(IMAGE, RawAnnotation(nothing), accept={"empty_mask"})
    assert kinds(examined.findings) == ["empty_mask"]
    assert examined.truth.num_instances == 0
    assert check(IMAGE, RawAnnotation(squares(32)), accept={"size_mismatch"}).truth is None
    image = np.full_like(IMAGE, np.nan, np.float32)
    assert check(image, RawAnnotation(squares()), accept={"not_finite"}).truth is None
    assert not is_excluded(examined.findings, {"empty_mask"})
    assert is_excluded(examined.findings)


def test_a_background_with_an_id_becomes_background():
    examined = of(squares() + 5)
    assert "background_id" in kinds(examined.findings)
    np.testing.assert_array_equal(examined.truth.labels, squares())


def test_stray_fragments_are_removed_and_true_pieces_are_kept():
    labels = squares()
    labels[60:62, 60] = 1  # 2 of 64 pixels
    examined = of(labels)
    assert examined.findings[0] == ("fragments", "1 fragments of 2 pixels, ids 1")
    np.testing.assert_array_equal(examined.truth.labels, squares())
    labels = squares()
    labels[60:62, 60:64] = 1  # 8 of 64
    examined = of(labels)
    assert kinds(examined.findings) == ["disconnected_instances"]
    np.testing.assert_array_equal(examined.truth.labels, labels)


def test_pieces_that_touch_at_a_corner_are_one():
    labels = squares()
    labels[12, 12] = 1
    assert not of(labels).findings


def test_stray_pixels_are_removed_and_tiny_instances_stay():
    labels = squares()
    labels[20, 14:17] = 40
    labels[30, 14:18] = 50
    examined = of(labels, classes={40: 1, 50: 1, 16: 2})
    assert kinds(examined.findings) == ["stray_pixels", "tiny_instances", "id_gaps"]
    assert examined.truth.num_instances == 17
    assert (examined.truth.labels[20, 14:17] == 0).all()
    assert (examined.truth.labels[30, 14:18] == 17).all()
    assert examined.truth.classes.tolist() == [1] * 15 + [2, 1]


def test_small_cells_among_small_ones_and_cells_cut_by_the_border_are_healthy():
    labels = squares(side=2)
    labels[30, 30:33] = 17
    assert not of(labels).findings
    labels = squares()
    labels[0, 30:33] = 17
    assert not of(labels).findings


def test_gaps_are_closed():
    labels = squares() * 3
    examined = of(labels, classes={6: 2})
    assert examined.findings == (("id_gaps", "16 ids up to 48"),)
    np.testing.assert_array_equal(examined.truth.labels, squares())
    assert examined.truth.classes[1] == 2


def test_hidden_outlines_are_counted():
    assert of(squares(), num_hidden=2).findings == (("hidden_instances", "2 of the outlines or masks"),)


def test_sound_masks_from_jpeg_are_kept():
    assert kinds(of(squares(), lossy=True).findings) == ["lossy_edges"]
    assert of(squares(), lossy=True).truth is not None


def test_one_cell_is_no_foreground_even_with_a_fragment():
    labels = np.zeros((64, 64), np.int32)
    labels[20:40, 20:40] = 255
    labels[50, 50] = 255
    examined = of(labels, binary=True)
    assert kinds(examined.findings) == ["fragments", "id_gaps"]
    assert examined.truth.num_instances == 1


def test_a_large_cell_that_leaves_a_side_free_is_no_background():
    labels = np.zeros((64, 64), np.int32)
    labels[:, 1:] = 1
    assert not of(labels).findings


def test_pixels_to_be_ignored_stay_so():
    ignore = np.zeros((64, 64), bool)
    ignore[0] = True
    semantic = of(squares(), ignore=ignore).truth.semantic
    assert (semantic[0] == IGNORE).all()
    assert (semantic[1:] != IGNORE).all()
