import itertools

import numpy as np
import pytest

from segjax.inference.tiling import blend_weights, predict_tiled, window_offsets, window_size


def window_mean(images):
    """A network of reach 2: the mean of 5 x 5 pixels, zeros beyond the border of what it is given."""
    padded = np.pad(images[0, ..., 0], 2)
    height, width = images.shape[1:3]
    shifted = [padded[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return {"mean": np.mean(shifted, 0)[None], "image": images}


@pytest.mark.parametrize("shape", [(300, 200), (129, 400), (260, 260)])
def test_tiles_join_without_a_seam(shape):
    image = np.random.default_rng(0).random((*shape, 1), np.float32)
    whole = predict_tiled(window_mean, image, tile=512, overlap=0)
    tiled = predict_tiled(window_mean, image, tile=128, overlap=16)
    np.testing.assert_allclose(tiled["image"], image, atol=1e-6)
    # Near a seam a window sees zeros where its neighbour sees the image; the ramp gives it little say there.
    inner = np.s_[3:-3, 3:-3]
    assert np.abs(tiled["mean"] - whole["mean"])[inner].max() < 0.1


def test_a_folder_of_many_sizes_makes_a_handful_of_windows():
    rng = np.random.default_rng(0)
    sizes = {window_size(tuple(rng.integers(1, 3000, 2)), tile=512) for _ in range(1000)}
    assert sizes == {128, 256, 384, 512}


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(100, 128, 16), (128, 128, 16), (129, 128, 16), (1000, 128, 32)]
)
def test_windows_cover_everything_and_overlap_enough(length, window, overlap):
    begins = window_offsets(length, window, overlap)
    assert begins[0] == 0
    assert begins[-1] + window >= length
    assert all(second - first <= window - overlap for first, second in itertools.pairwise(begins))
    total = np.zeros(max(length, window))
    for begin, weights in blend_weights(max(length, window), window, overlap):
        assert (weights > 0).all()
        total[begin : begin + window] += weights
    assert total.min() > 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 7)])
def test_tiny_images_are_continued_by_reflection(shape):
    seen = []

    def spy(images):
        seen.append(images.shape)
        assert np.isfinite(images).all()
        return {"image": images}

    image = np.random.default_rng(0).random((*shape, 2), np.float32)
    result = predict_tiled(spy, image, tile=256, overlap=32)
    np.testing.assert_allclose(result["image"], image, atol=1e-6)
    assert all(height == width and height % 128 == 0 for _, height, width, _ in seen)
