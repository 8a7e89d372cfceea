import numpy as np
import pytest
from skimage.color import hed2rgb

from segjax.classical.contrast import contrast, is_stained, otsu_foreground, stretch
from segjax.classical.settings import Foreground
from segjax.errors import InputError

CELL = np.zeros((40, 50), bool)
CELL[10:25, 15:30] = True
NOISE = np.random.default_rng(0).normal(size=CELL.shape)


def section():
    """Stained tissue [H, W, 3] uint8: a blue nucleus in pink."""
    density = np.stack([0.01 + 0.12 * CELL, 0.06 + 0.01 * NOISE, np.zeros(CELL.shape)], -1)
    return np.round(255 * hed2rgb(density)).astype(np.uint8)


def test_cells_are_bright_whatever_the_image():
    fluorescence = (200 + 3000 * CELL + 20 * NOISE).astype(np.uint16)[..., None]
    for image in (fluorescence, 4000 - fluorescence, section(), fluorescence / 4095.0):
        contrasted = contrast(image)
        assert contrasted.dtype == np.float32
        assert contrasted.min() >= 0
        assert contrasted.max() <= 1
        assert contrasted[CELL].mean() > contrasted[~CELL].mean() + 0.5


def test_what_is_bright_can_be_said():
    image = (200 + 3000 * CELL).astype(np.uint16)[..., None]
    dark = contrast(image, bright=False)
    assert dark[CELL].mean() < dark[~CELL].mean()
    np.testing.assert_allclose(dark, 1 - contrast(image, bright=True), atol=1e-6)


def test_stained_tissue_is_told_from_fluorescence():
    image = section()
    assert is_stained(image)
    assert not is_stained(np.repeat(image[..., :1], 3, -1))  # grey
    assert not is_stained(image[..., :2])
    black = np.zeros_like(image)
    black[CELL] = (40, 80, 250)
    assert not is_stained(black)  # colours on black: fluorescence
    np.testing.assert_array_equal(contrast(image), contrast(image, stained=True))
    assert (contrast(image, stained=False, bright=False) != contrast(image)).any()
    # 16 bits of the same, and 0..1.
    assert is_stained(image.astype(np.uint16) * 257)
    assert is_stained(image / 255.0)


def test_stretches_between_percentiles():
    ramp = np.linspace(0, 1000, 1001)[None]
    contrasted = stretch(ramp)
    np.testing.assert_allclose(contrasted[0, [0, 10, 998, 1000]], [0, 0, 1, 1], atol=1e-6)
    assert contrasted[0, 504] == pytest.approx(0.5)
    assert stretch(np.full((3, 4), 7.0)) is None
    spot = np.zeros((100, 100))
    spot[5, 5] = 3
    assert stretch(spot)[5, 5] == 1


def test_gamma_lets_dim_cells_count():
    intensity = np.full((60, 60), 0.001)
    intensity[5:15, 5:15] = np.linspace(0.1, 0.2, 10)
    intensity[30:50, 30:50] = np.linspace(0.8, 1.0, 20)
    assert not otsu_foreground(intensity, Foreground(gamma=1.0), sigma=0)[10, 8]
    assert otsu_foreground(intensity, Foreground(gamma=0.3), sigma=0).sum() == 100 + 400
    # Or what is brighter than its surroundings, and at least a fifth of the threshold.
    local = otsu_foreground(intensity, Foreground(gamma=1.0), sigma=0, window=31, fraction=0.2)
    assert local.sum() == 100 + 400
    assert not otsu_foreground(np.full((4, 4), 0.5), Foreground(), sigma=1, window=3).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 3), (9, 9, 2)])
def test_without_contrast_there_is_none(shape):
    assert contrast(np.full(shape, 3.0)) is None
    assert contrast(np.full(shape, 200, np.uint8)) is None


def test_says_what_it_cannot_use():
    with pytest.raises(InputError, match="NaN or infinite: replace them"):
        contrast(np.full((8, 8, 1), np.nan))
    for broken in (np.zeros((8, 8)), np.zeros((0, 8, 1))):
        with pytest.raises(InputError, match=r"has the shape \(.*\): give \[H, W, C\]"):
            contrast(broken)
    with pytest.raises(InputError, match="has 1 channels"):
        contrast(np.eye(8)[..., None], stained=True)
