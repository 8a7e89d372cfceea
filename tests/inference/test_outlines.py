import numpy as np

from segjax.inference.outlines import OUTLINES, classical_outlines


def image_with_cells():
    """Two touching bright discs [64, 96, 1], and their masks."""
    y, x = np.mgrid[:64, :96]
    first = (y - 32) ** 2 + (x - 30) ** 2 < 15**2
    second = (y - 32) ** 2 + (x - 57) ** 2 < 15**2
    image = 200 * (first | second) + np.random.default_rng(0).normal(20, 4, (64, 96))
    return image[..., None].astype(np.float32), first, second & ~first


def iou(cutout, mask):
    drawn = np.zeros(mask.shape, bool)
    drawn[cutout.window] = cutout.mask
    return (drawn & mask).sum() / (drawn | mask).sum()


def outlines_of(image, boxes):
    return {kind: classical_outlines(image, boxes, kind) for kind in OUTLINES}


def test_a_region_has_the_pixels_of_its_cell():
    image, first, second = image_with_cells()
    boxes = np.array([[14, 16, 47, 48], [43, 19, 71, 46]], np.float32)
    outlines = outlines_of(image, boxes)
    assert iou(outlines["region"][0], first) > 0.93
    assert iou(outlines["region"][1], second) > 0.9
    # The foreground in a box includes a part of the neighbour.
    assert 0.8 < iou(outlines["foreground"][0], first) < iou(outlines["region"][0], first)


def test_boxes_without_a_region_are_ellipses():
    image, _, _ = image_with_cells()
    outlines = outlines_of(image, np.array([[80, 4, 90, 24]], np.float32))
    for kind in ("region", "foreground"):
        np.testing.assert_array_equal(outlines[kind][0].mask, outlines["ellipse"][0].mask)
    assert outlines["ellipse"][0].mask.sum() == 160  # pi / 4 * 10 * 20 = 157


def test_no_box_and_no_contrast():
    image, _, _ = image_with_cells()
    assert outlines_of(image, np.zeros((0, 4), np.float32))["region"] == []
    flat = outlines_of(np.zeros((20, 20, 1), np.uint8), np.array([[2, 2, 9, 9]], np.float32))
    assert flat["region"][0].mask.any()
