"""Configs small enough for a test: the same code, a sliver of the numbers."""

from ml_collections import ConfigDict


def shrink(config: ConfigDict) -> ConfigDict:
    """Makes a config of configs/ small."""
    config.steps = 4
    config.batch_size = 8
    config.data.patch_size = 32
    config.data.margin = 1.0
    config.data.scale = 0.5
    config.model.width = 1 / 32
    config.optimizer.warmup = 1
    config.train.validate_every = 2
    config.train.checkpoint_every = 1
    config.train.log_every = 1
    # Quick to compile.
    config.augment.policy = ("flip", "rot90")
    config.mesh.data = 1
    config.predict.tile, config.predict.overlap = 128, 32
    return config
