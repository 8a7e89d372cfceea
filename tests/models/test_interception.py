"""Networks whose layers are changed while they are traced have the same outputs."""

import functools

import jax
import numpy as np
import pytest

from segjax.models.interception import folded_norms, standardised_params
from segjax.models.norms import standardise
from segjax.models.segmenters import create_segmenter
from tests.models.quick import jit, random_variables

IMAGES = np.random.default_rng(0).random((1, 32, 32, 2), np.float32)


def network(encoder, norm):
    model = create_segmenter(encoder, classes=3, width=1 / 32, norm=norm, decoder_norm=norm)
    params = random_variables(model, IMAGES)["params"]
    return params, lambda params, images: model.apply({"params": params}, images)


@pytest.mark.parametrize("encoder", ["vgg11", "resnet18"])
def test_standardised_kernels_are_those_that_the_network_uses(encoder):
    params, predict = network(encoder, "weight")
    changed = standardised_params(predict, params, jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype))
    before, after = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (params, changed))
    for (path, old), (_, new) in zip(before, after, strict=True):
        names = [entry.key for entry in path]
        # The heads, and the layers that double the resolution, have no norm.
        is_standardised = names[-1] == "kernel" and names[-2].startswith("conv")
        assert np.array_equal(old, new) != is_standardised, names
        if is_standardised:
            np.testing.assert_allclose(new, standardise(old), rtol=1e-5, atol=1e-7)
            # So the network, which standardises them again, has the same outputs.
            np.testing.assert_allclose(new, standardise(new), rtol=1e-5, atol=1e-6)


def test_other_norms_keep_their_kernels():
    params, predict = network("vgg11", "layer")
    changed = standardised_params(predict, params, jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, changed)))


def test_folded_norms_are_constants():
    params, predict = network("vgg11", "frozen_batch")
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + rng.random(leaf.shape, np.float32) if leaf.ndim == 1 else leaf, params
    )
    expected = jit(predict)(params, IMAGES)["classes"]
    assert "rsqrt" in str(jax.make_jaxpr(predict)(params, IMAGES))
    with folded_norms():
        folded = functools.partial(predict, params)
        assert "rsqrt" not in str(jax.make_jaxpr(folded)(IMAGES))
        got = jit(folded)(IMAGES)["classes"]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
