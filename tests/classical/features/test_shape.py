from functools import partial

import jax
import numpy as np
import pytest

from segjax.classical.features import shape

Y, X = np.mgrid[-32:33, -32:33].astype(np.float32)
RADIUS = np.hypot(Y, X)


def test_level_lines_of_a_cone_are_circles():
    curvature = jax.jit(shape.curvature)
    bend = np.asarray(curvature(-RADIUS))
    for y, x in ((0, 16), (12, -16), (-20, 0)):
        assert bend[32 + y, 32 + x] == pytest.approx(1 / np.hypot(y, x), rel=0.03)
    np.testing.assert_allclose(np.asarray(curvature(RADIUS))[32, 48], -1 / 16, rtol=0.03)
    np.testing.assert_allclose(curvature(X)[10:-10, 10:-10], 0, atol=1e-4)
    assert not np.asarray(curvature(np.full((65, 65), 2.0))).any()


def test_blobs_are_positive_and_saddles_negative():
    sigma = 3.0
    blobness = jax.jit(partial(shape.blobness, sigma=sigma))
    found = np.asarray(blobness(np.exp(-(RADIUS**2) / 50)))
    # Blurred by 3, a Gaussian of variance 25 has 34; its second derivatives are -a / 34 with a = 25 / 34.
    assert found[32, 32] == pytest.approx(sigma**4 * (25 / 34 / 34) ** 2, rel=0.05)
    saddle = np.asarray(blobness(X**2 - Y**2))
    assert saddle[32, 32] == pytest.approx(-4 * sigma**4, rel=0.01)
