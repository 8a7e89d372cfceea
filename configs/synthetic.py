"""Synthetic nuclei with exact labels: no download, trains in a minute or two on two CPU cores.

segjax train --config=synthetic --workdir=runs/synthetic
"""

from ml_collections import ConfigDict

from segjax.configs import semantic
from segjax.configs.variants import parse


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; `dataset=synthetic` is its only variant."""
    parse(variant, {"dataset": ("synthetic",)})
    config = semantic.get_config("dataset=synthetic")
    config.steps = 150
    config.batch_size = 8
    config.data.patch_size = 96
    config.model.width = 0.125
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup = 10
    config.train.ema_decay = 0.98
    config.train.validate_every = 75
    config.train.checkpoint_every = 75
    return config
