"""Gradients of a whole U-Net by XLA's convolutions and by Winograd's algorithm, beside those in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models import segmenters
from segjax.ops import convolution

NUM_IMAGES = 5


class UNet(nn.Module):
    """A segmenter without its heads, because these compute in float32 only."""

    dtype: str

    @nn.compact
    def __call__(self, images):
        settings = {"width": 0.125, "norm": "weight", "decoder_norm": "weight", "dtype": self.dtype}
        whole = segmenters.create_segmenter("vgg11", classes=2, convolutions=1, **settings)
        return whole.decoder.copy(name="decoder")(
            whole.encoder.copy(name="encoder")(images), images.shape[1:3]
        )


def loss(params, image, weights, dtype):
    return (UNet(dtype).apply({"params": params}, image) * weights).sum()


@pytest.mark.usefixtures("quick_to_compile")
def test_gradients_of_a_network_are_near_those_of_float64(monkeypatch):
    monkeypatch.setitem(segmenters.DTYPES, "float64", np.float64)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(NUM_IMAGES, 1, 64, 64, 3)).astype(np.float32)
    features, variables = UNet("float32").init_with_output(jax.random.key(0), images[0])
    weights = rng.normal(size=(NUM_IMAGES, *features.shape)).astype(np.float32)

    def gradients(dtype):
        compute = jax.jit(jax.grad(functools.partial(loss, dtype=dtype)))
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables["params"])
        examples = zip(jnp.asarray(images, dtype), jnp.asarray(weights, dtype), strict=True)
        trees = [compute(params, *example) for example in examples]
        return [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in trees]

    with jax.enable_x64(True):
        exact = gradients("float64")
    errors = {}
    for name, least in (("winograd", 1), ("xla", 2**30)):
        for threshold in ("MIN_CHANNELS", "MIN_CHANNELS_KERNEL_GRADIENT", "MIN_TILES"):
            monkeypatch.setattr(convolution, threshold, least)
        pairs = zip(gradients("float32"), exact, strict=True)
        errors[name] = [np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs]
    # Not the largest ones: rounding may change the sign before a ReLU, and with it the gradient.
    assert np.median(errors["xla"]) < np.median(errors["winograd"]) < 1e-5
