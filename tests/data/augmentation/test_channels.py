import jax
import numpy as np
import pytest

from segjax.data.augmentation.channels import greyscale, invert, shuffle_channels
from segjax.data.augmentation.policy import make_augment

pytestmark = pytest.mark.usefixtures("quick_to_compile")
KEYS = jax.random.split(jax.random.key(0), 400)
OPERATIONS = (invert, shuffle_channels, greyscale)


def picture(channels=3):
    return np.random.default_rng(0).uniform(0, 1, (6, 5, channels)).astype(np.float32)


def every(operation, probability, image=None):
    image = picture() if image is None else image
    change = jax.jit(jax.vmap(lambda key: operation(key, image, probability=probability)))
    return np.asarray(change(KEYS))


def is_same(images, image):
    return np.isclose(images, image).all((1, 2, 3))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_change_happens_as_often_as_its_probability(operation):
    np.testing.assert_array_equal(every(operation, 0.0), np.broadcast_to(picture(), (len(KEYS), 6, 5, 3)))
    # One permutation of six is the identity.
    always = 5 / 6 if operation is shuffle_channels else 1
    for probability in (0.25, 1.0):
        changed = ~is_same(every(operation, probability), picture())
        assert changed.mean() == pytest.approx(probability * always, abs=0.07)


def test_inversion_swaps_bright_and_dark():
    np.testing.assert_allclose(every(invert, 1.0)[0], -picture())


def test_every_permutation_of_the_channels_occurs():
    orders = set()
    for image in every(shuffle_channels, 1.0):
        order = tuple(int(np.abs(picture() - image[..., k : k + 1]).sum((0, 1)).argmin()) for k in range(3))
        np.testing.assert_array_equal(image, picture()[..., order])
        orders.add(order)
    assert len(orders) == 6


def test_grey_is_a_mixture_of_the_channels_that_differs():
    images = every(greyscale, 1.0)
    weights = []
    for image in images:
        np.testing.assert_array_equal(image[..., 0], image[..., 1])
        np.testing.assert_array_equal(image[..., 0], image[..., 2])
        actual = np.linalg.lstsq(picture().reshape(-1, 3), image[..., 0].ravel(), rcond=None)[0]
        assert actual.sum() == pytest.approx(1, abs=1e-3)
        assert (actual > 0).all()
        weights.append(actual)
    assert np.std(weights, axis=0).min() > 0.1


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(operation, channels):
    images = every(operation, 0.5, picture(channels))
    assert images.shape == (len(KEYS), 6, 5, channels)
    assert images.dtype == np.float32
    assert np.isfinite(images).all()


def test_an_inverted_image_of_a_policy_keeps_its_range():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 0.2, (32, 32, 1)).astype(np.float32)
    image[8:16, 8:16] += 0.8  # a bright cell on a dark ground
    labels = (image[..., 0] > 0.5).astype(np.int32)
    example = {"image": image, "labels": labels, "semantic": labels}
    augment = make_augment(patch_size=32, policy=("invert",), invert=1.0)
    actual = np.asarray(augment(KEYS[0], example)["image"])
    assert actual[labels == 1].max() < actual[labels == 0].min()
    np.testing.assert_allclose(np.percentile(actual, (2, 98)), np.percentile(image, (2, 98)), atol=0.1)
