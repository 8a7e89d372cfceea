import io

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.checks.fingerprints import (
    ALIKE,
    CHUNK,
    ORDER,
    SAME,
    outline_digest,
    perceptual,
    pixel_digest,
    resemblance,
)
from tests.datasets.checks.planted import healthy, squares

IMAGE = healthy(size=96, bits=8)[0]
SYMMETRIES = [
    lambda image, turns=turns, flip=flip: np.rot90(image[::-1] if flip else image, turns)
    for turns in range(4)
    for flip in (False, True)
]


def alike(first, second):
    """The similarity of two images, 0 if it is below all thresholds."""
    pairs = resemblance(np.stack([perceptual(first), perceptual(second)]), threshold=0.01)
    return pairs.score[0]


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))[..., None]


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_it_does_not_matter_how_an_image_lies(symmetry):
    wide = IMAGE[:70]
    assert alike(wide, symmetry(wide)) > 0.999


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image * 0.5 + 40).astype(np.uint8),
        lambda image: image.astype(np.uint16) * 256,
        lambda image: image.astype(np.float32) / 255,
        lambda image: (255 * (image / 255.0) ** 0.7).astype(np.uint8),
        lambda image: np.repeat(image, 3, axis=-1),
        lambda image: np.repeat(np.repeat(image, 2, axis=0), 2, axis=1),
        lambda image: image + np.random.default_rng(0).normal(0, 10, image.shape),
        lambda image: image[1:, 1:],
        jpeg,
    ],
)
def test_it_hardly_matters_how_an_image_was_exported(change):
    assert alike(IMAGE, change(IMAGE)) > SAME


def test_different_images_are_not_alike():
    prints = np.stack([perceptual(healthy(seed, size=96)[0]) for seed in range(30)])
    pairs = resemblance(prints)
    assert (pairs.nearest == -1).all()
    assert len(set(pairs.cluster)) == 30


def test_uneven_illumination_does_not_make_images_alike():
    light = 1 + 0.5 * np.linspace(-1, 1, 96)[:, None, None]
    lit = [healthy(seed, size=96)[0] * light + 2000 * light for seed in range(10)]
    assert resemblance(np.stack([perceptual(image) for image in lit])).score.max() < ALIKE


def test_constant_images_are_like_nothing():
    flat = perceptual(np.full((40, 30, 1), 9, np.uint8))
    assert not flat.any()
    assert (resemblance(np.stack([flat, flat])).nearest == -1).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 40, 2), (3000, 1000, 1)])
def test_any_size_has_a_fingerprint(shape):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert perceptual(image).shape == (ORDER, ORDER)
    assert perceptual(image).dtype == np.int8


def test_many_images_are_compared_across_chunks():
    rng = np.random.default_rng(0)
    prints = rng.integers(-60, 60, (CHUNK + 40, ORDER, ORDER)).astype(np.int8)
    first, second, third = 3, CHUNK + 7, 500
    prints[second] = prints[first].T
    prints[third] = prints[first]
    prints[third, 1::2] *= -1
    rank = np.zeros(len(prints), int)
    rank[[first, third]] = 1
    pairs = resemblance(prints, rank)
    assert set(np.flatnonzero(pairs.nearest >= 0)) == {first, second, third}
    assert pairs.cluster[first] == pairs.cluster[second] == pairs.cluster[third]
    assert len(set(pairs.cluster)) == len(prints) - 2
    assert pairs.superior[first] == pairs.superior[third] == second
    assert pairs.superior[second] == -1
    np.testing.assert_allclose(pairs.score[[first, second, third]], 1, rtol=1e-5)


def test_similarity_is_that_of_all_eight_symmetries_one_by_one():
    rng = np.random.default_rng(1)
    prints = rng.integers(-60, 60, (5, ORDER, ORDER)).astype(np.int8)
    pairs = resemblance(prints, threshold=-1)
    for index, print_ in enumerate(prints):
        best = -1.0
        for other in np.delete(prints, index, axis=0).astype(float):
            for turned in (other, other.T):
                for down in (1, -1):
                    for right in (1, -1):
                        moved = turned * np.where(np.arange(ORDER) % 2, down, 1)[:, None]
                        moved = moved * np.where(np.arange(ORDER) % 2, right, 1)
                        cosine = (
                            (moved * print_).sum()
                            / np.linalg.norm(moved)
                            / np.linalg.norm(print_.astype(float))
                        )
                        best = max(best, cosine)
        np.testing.assert_allclose(pairs.score[index], best, rtol=1e-4)


def test_pixel_digests_are_those_of_values():
    assert pixel_digest(IMAGE) == pixel_digest(IMAGE.astype(np.uint16))
    assert pixel_digest(IMAGE) == pixel_digest(np.repeat(IMAGE, 3, axis=-1))
    changed = IMAGE.copy()
    changed[0, 0] += 1
    others = (
        changed,
        IMAGE[::-1],
        IMAGE.reshape(48, 192, 1),
        IMAGE.astype(np.float32),
        IMAGE.astype(np.uint16) * 2,
    )
    assert len({pixel_digest(image) for image in (IMAGE, *others)}) == 6


def test_outline_digests_do_not_know_ids():
    labels = squares()
    renumbered = np.where(labels > 0, 40 - labels, 0)
    assert outline_digest(labels) == outline_digest(renumbered)
    assert outline_digest(labels) != outline_digest(np.where(labels == 3, 0, labels))
    touching = np.zeros((8, 8), int)
    touching[2:4, 2:6] = 1
    apart = touching.copy()
    apart[2:4, 4:6] = 2
    assert outline_digest(touching) != outline_digest(apart)
    assert outline_digest(np.zeros((8, 8), int)) == ""
