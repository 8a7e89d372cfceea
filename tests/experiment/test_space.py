"""The rows of images split over eight devices: the same network, in less memory."""

import dataclasses

import jax
import numpy as np
import pytest

from segjax.configs import rcnn, semantic
from segjax.errors import InputError
from segjax.experiment.setup import make_setup, make_stream, open_split
from segjax.experiment.workdir import ModelMetadata
from segjax.train.sharding import batch_sharding, state_sharding
from tests.experiment.tiny import shrink
from tests.models.quick import random_params

METADATA = ModelMetadata(("background", "nucleus", "bright body"), 1)


def trained(space):
    """Returns the parameters after two steps, and the temporary memory of a step on each device."""
    config = shrink(semantic.get_config("encoder=resnet18,decoder=upsample,dataset=synthetic"))
    config.batch_size, config.data.patch_size, config.train.ema_decay = 1, 64, 0.0
    config.augment.policy = ()
    # Activations of random parameters grow from block to block, and their rounding, if they have no norm.
    config.model.norm = config.model.decoder_norm = "layer"
    config.optimizer.update(name="sgd", learning_rate=0.1)
    config.mesh.space = space
    setup = make_setup(config, METADATA)
    stream = make_stream(config, open_split(config, "train"), setup.task)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), setup.shapes)
    state, key = dataclasses.replace(zeros, params=random_params(setup.shapes.params)), jax.random.key(0)
    # Placed as in a training, so that the step is compiled once.
    state = jax.device_put(state, state_sharding(setup.mesh, setup.shapes))
    batches = [jax.device_put(stream.batch(number), batch_sharding(setup.mesh)) for number in range(2)]
    step = setup.step.lower(state, batches[0], key).compile()
    for batch in batches:
        state, log = step(state, batch, key)
    return jax.device_get((state.params, log["loss"])), step.memory_analysis().temp_size_in_bytes


@pytest.mark.usefixtures("quick_to_compile")
def test_eight_devices_of_one_image_train_the_network_that_one_trains_in_less_memory():
    (one, memory_of_one), (eight, memory_of_eight) = trained(1), trained(8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), eight, one)
    assert memory_of_eight < memory_of_one / 3


def test_detectors_are_not_split():
    config = rcnn.get_config("dataset=synthetic")
    config.mesh.update(data=1, space=8)
    config.batch_size = 8
    with pytest.raises(InputError, match=r"config.mesh.space=8 splits the images of segmenters only"):
        make_setup(config, METADATA)
