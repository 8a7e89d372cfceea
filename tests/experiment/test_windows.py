"""A trained network finds the same instances whatever windows an image is cut into."""

import dataclasses

import numpy as np
import pytest

import segjax
from segjax.configs import semantic
from segjax.datasets.catalog import open_source
from segjax.experiment.methods import open_run
from segjax.experiment.training import train
from tests.experiment.tiny import shrink


@pytest.mark.usefixtures("quick_to_compile")
def test_the_instances_of_a_trained_network_do_not_depend_on_the_windows(tmp_path):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.dataset.validation = "validation[:1]"
    config.steps = config.train.validate_every = 300
    config.train.checkpoint_every, config.train.ema_decay = 0, 0.0
    config.batch_size, config.data.patch_size = 4, 64
    config.model.width, config.model.convolutions = 1 / 8, 1
    config.optimizer.learning_rate = 3e-3
    train(config, tmp_path / "run")
    predictor = open_run(tmp_path / "run").method
    images = [record.image for record in open_source("synthetic", "test[:4]")]
    # Parts of different brightness, so that statistics of windows would differ.
    image = np.concatenate([np.concatenate(images, 1), np.concatenate(images[::-1], 1) * 0.3])
    tiled, full = (
        dataclasses.replace(predictor, config=dataclasses.replace(predictor.config, tile=tile))(image)
        for tile in (128, 1024)
    )
    assert full.num_instances > 50
    assert segjax.evaluate(full, tiled).ap[0.9] >= 0.99
