import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from segjax.ops import filters

gaussian_blur = jax.jit(filters.gaussian_blur)


def picture(height=24, width=31, channels=2):
    return np.random.default_rng(0).uniform(0, 1, (height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_agrees_with_scipy(sigma):
    expected = gaussian_filter(picture().astype(float), (sigma, sigma, 0), mode="reflect", truncate=7.0)
    np.testing.assert_allclose(gaussian_blur(picture(), sigma), expected, atol=1e-5)


def test_no_width_leaves_the_image_as_it_is():
    np.testing.assert_array_equal(gaussian_blur(picture(), 0.0), picture())


@pytest.mark.parametrize("sigma", [0.1, 2.0, 100.0])
def test_a_flat_image_stays_flat_up_to_its_edges(sigma):
    np.testing.assert_allclose(gaussian_blur(jnp.full((9, 12, 1), 0.7), sigma), 0.7, rtol=1e-5)


def test_widths_may_be_traced_and_differ_within_a_batch():
    sigmas = jnp.array([0.0, 0.7, 2.0])
    together = jax.jit(jax.vmap(gaussian_blur, in_axes=(None, 0)))(picture(), sigmas)
    for sigma, blurred in zip(sigmas, together, strict=True):
        np.testing.assert_allclose(blurred, gaussian_blur(picture(), sigma), atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    image = picture(6, 5, 1)
    check_grads(gaussian_blur, (image, 1.3), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)])
def test_derivatives_are_those_of_scipy(order):
    image = picture(channels=1)[..., 0]
    expected = ndimage.gaussian_filter(image.astype(float), 1.5, order=order, mode="nearest")
    derivative = jax.jit(filters.gaussian_derivative, static_argnums=(1, 2))(image, 1.5, order)
    np.testing.assert_allclose(derivative, expected, atol=2e-6)


def test_the_laplacian_of_a_disc_is_extreme_at_its_own_scale():
    y, x = np.mgrid[-30:31, -30:31]
    disc = (y**2 + x**2 <= 8**2).astype(np.float32)
    sigmas = (3.0, 8 / 2**0.5, 9.0)
    derivative = jax.jit(filters.gaussian_derivative, static_argnums=(1, 2))
    responses = [
        -(sigma**2) * sum(float(derivative(disc, sigma, order)[30, 30]) for order in ((2, 0), (0, 2)))
        for sigma in sigmas
    ]
    assert max(responses) == responses[1] > 0


def test_box_means_are_those_of_scipy():
    image = picture(channels=1)[..., 0]
    expected = ndimage.uniform_filter(image, 5, mode="nearest")
    np.testing.assert_allclose(filters.box_mean(image, 5), expected, atol=1e-6)


def test_gradients_of_derivatives_are_those_of_finite_differences():
    image = picture(6, 5, 1)[..., 0]
    check_grads(lambda x: filters.gaussian_derivative(x, 1.0), (image,), order=1, modes=["rev"], rtol=2e-2)
