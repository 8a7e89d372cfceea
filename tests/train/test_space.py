import jax
import numpy as np
import pytest
from flax import linen as nn

from segjax.train.sharding import make_mesh
from segjax.train.space import split_network, split_rows
from tests.train import toy


@pytest.mark.parametrize("rows", [16, 8, 4, 2])
def test_the_mean_over_a_convolution_is_that_of_the_image(rows):
    # With fewer rows than devices, it included what is not in the image.
    images = np.random.default_rng(0).normal(size=(2, 64, 4, 3)).astype(np.float32)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x.reshape(2, rows, 64 // rows, 4, 3)[:, :, 0]
            return nn.Conv(8, (3, 3), padding=1)(x).mean((1, 2))

    params = Network().init(jax.random.key(0), images)

    def run(space):
        mesh = make_mesh(data=1, fsdp=1, space=space)

        def loss(params, images):
            with split_network(mesh):
                means = Network().apply(params, split_rows(mesh, {"image": images})["image"])
            return (means**2).sum(), means

        return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(params, images))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run(8), run(1))


@pytest.mark.parametrize(("data", "fsdp", "space"), [(2, 1, 4), (1, 2, 4), (2, 2, 2)])
def test_devices_that_split_rows_learn_what_one_learns(data, fsdp, space):
    def trained(**mesh):
        _, state, step = toy.setup(**mesh)
        for number in range(5):
            state, log = step(state, toy.batch(number), jax.random.key(3))
        return jax.device_get((state.params, log["loss"]))

    split = trained(data=data, fsdp=fsdp, space=space)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), split, trained())
