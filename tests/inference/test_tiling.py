import itertools

import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference.tiling import Windows, predict_tiled


def window_mean(images):
    """A network with a margin of 2: the mean of 5 x 5 pixels, zeros beyond the border of its input."""
    padded = np.pad(images[0, ..., 0], 2)
    height, width = images.shape[1:3]
    shifted = [padded[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return {"mean": np.mean(shifted, 0)[None], "image": images}


def pool_and_enlarge(images):
    """A network of stride 16 with a margin of 16: the maximum of 32 x 32 pixels, in cells of 16 x 16."""
    height, width = (-(-side // 16) * 16 for side in images.shape[1:3])
    cells = np.zeros((height // 16 + 1, width // 16 + 1), np.float32)
    for row, column in np.ndindex(*cells.shape):
        covered = images[
            0, max(16 * row - 16, 0) : 16 * row + 16, max(16 * column - 16, 0) : 16 * column + 16
        ]
        cells[row, column] = covered.max(initial=0)
    large = np.kron(cells[:-1, :-1], np.ones((16, 16), np.float32))
    return {"max": large[None, : images.shape[1], : images.shape[2]]}


@pytest.mark.parametrize("shape", [(300, 200), (129, 400), (260, 260)])
def test_tiles_join_without_a_seam(shape):
    image = np.random.default_rng(0).random((*shape, 1), np.float32)
    full = predict_tiled(window_mean, image, Windows(tile=512, overlap=0))
    tiled = predict_tiled(window_mean, image, Windows(tile=128, overlap=16))
    np.testing.assert_allclose(tiled["image"], image, atol=1e-6)
    # Near a seam, a window has zeros where its neighbour has the image; its weights are small there.
    assert np.abs(tiled["mean"] - full["mean"])[3:-3, 3:-3].max() < 0.1


@pytest.mark.parametrize("shape", [(300, 200), (129, 400), (260, 260), (128, 1000)])
@pytest.mark.parametrize(
    ("predict", "margin", "stride"), [(window_mean, 2, 1), (pool_and_enlarge, 16, 16)], ids=["mean", "pool"]
)
@pytest.mark.parametrize(("tile", "overlap"), [(128, 0), (128, 50), (100, 1)])
def test_the_result_does_not_depend_on_the_windows(shape, predict, margin, stride, tile, overlap):
    image = np.random.default_rng(0).random((*shape, 1), np.float32)
    full = predict_tiled(predict, image, Windows(1024, 0))
    tiled = predict_tiled(predict, image, Windows(tile, overlap, margin, stride))
    for name, values in full.items():
        np.testing.assert_allclose(
            tiled[name][:-margin, :-margin], values[:-margin, :-margin], rtol=0, atol=1e-6
        )


def test_a_folder_of_many_sizes_makes_a_handful_of_windows():
    rng = np.random.default_rng(0)
    sizes = {Windows(512, 64).side(tuple(rng.integers(1, 3000, 2))) for _ in range(1000)}
    assert sizes == {128, 256, 384, 512}


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (Windows(512, 64), 512),
        (Windows(500, 64, stride=16), 496),
        (Windows(512, 64, margin=126, stride=16), 512),
        (Windows(512, 64, margin=135, stride=16), 544),
        (Windows(16, 0, margin=0, stride=32), 32),
    ],
    ids=["tile", "multiple of the stride", "four margins fit", "four margins", "one stride"],
)
def test_windows_are_at_least_four_margins(windows, expected):
    assert windows.largest == windows.side((5000, 10)) == expected


@pytest.mark.parametrize("length", [100, 128, 129, 1000])
@pytest.mark.parametrize(
    "windows",
    [
        Windows(128, 16),
        Windows(128, 0),
        Windows(128, 127),
        Windows(128, 16, stride=16),
        Windows(128, 112, stride=16),
        Windows(128, 40, margin=20, stride=16),
        Windows(128, 90, margin=20, stride=1),
        Windows(128, 0, margin=32, stride=32),
        Windows(100, 10, margin=3, stride=8),
    ],
    ids=str,
)
def test_windows_cover_everything_and_overlap_enough(length, windows):
    padded, side = windows.fit(np.zeros((length, 1, 1), np.float32))
    starts = windows.starts(len(padded), side)
    assert starts[0] == 0
    assert starts[-1] + side == len(padded) >= length
    assert all(start % windows.stride == 0 for start in starts)
    least = max(windows.overlap, 2 * windows.margin)
    assert all(0 < second - first <= side - least for first, second in itertools.pairwise(starts))
    total = np.zeros(len(padded))
    for start, weights in windows.weights(len(padded), side):
        assert ((weights >= 0) & (weights <= 1)).all()
        assert start == 0 or (weights[: windows.margin] == 0).all()
        assert start == starts[-1] or (weights[side - windows.margin :] == 0).all()
        total[start : start + side] += weights
    assert total.min() >= 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 0}, "^tile=0 "),
        ({"tile": -128}, "^tile=-128 "),
        ({"overlap": -1}, "^overlap=-1 "),
        ({"overlap": 128}, "^overlap=128 "),
        ({"overlap": 500}, "^overlap=500 "),
        ({"overlap": 127, "stride": 16}, "^overlap=127 must be at least 16 pixels smaller"),
        ({"stride": 0}, "^stride=0 "),
        ({"margin": -1}, "^margin=-1 "),
    ],
    ids=str,
)
def test_impossible_windows_are_refused_by_name(settings, message):
    with pytest.raises(InputError, match=message):
        Windows(**{"tile": 128, "overlap": 16} | settings)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 7)])
def test_tiny_images_are_continued_by_reflection(shape):
    seen = []

    def spy(images):
        seen.append(images.shape)
        assert np.isfinite(images).all()
        return {"image": images}

    image = np.random.default_rng(0).random((*shape, 2), np.float32)
    result = predict_tiled(spy, image, Windows(tile=256, overlap=32))
    np.testing.assert_allclose(result["image"], image, atol=1e-6)
    assert all(height == width and height % 128 == 0 for _, height, width, _ in seen)
