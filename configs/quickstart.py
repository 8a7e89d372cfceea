"""Segments nuclei and micronuclei in fluorescence images; trains in minutes on two CPU cores.

segjax train --config=quickstart --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from segjax.configs import semantic
from segjax.configs.variants import parse

# Nuclei differ threefold in size and tenfold in brightness between microscopes, and cytoplasm may glow.
MICROSCOPES = {
    "scale": (0.5, 1.5),
    "gamma": (0.5, 2.2),
    "glow_radius": (8.0, 32.0),
    # Micronuclei have only a few dozen pixels; a stronger blur would hide them.
    "blur": (0.0, 0.7),
    "noise": 0.03,
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; `dataset=synthetic` needs no download."""
    chosen = parse(variant, {"dataset": ("mnfinder", "synthetic")})
    config = semantic.get_config(f"dataset={chosen['dataset']}")
    config.steps = 900
    config.batch_size = 4
    config.data.patch_size = 128
    config.data.foreground_fraction = 0.7
    config.data.margin = 1.3
    config.augment.update(MICROSCOPES)
    config.augment.elastic = (3.0, 48.0)
    config.model.width = 0.25
    config.task.class_weights = (1.0, 1.0, 3.0)
    config.task.min_area = (60, 8)
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup = 20
    config.train.ema_decay = 0.99
    config.train.validate_every = 450
    config.train.checkpoint_every = 300
    config.predict.flips = True
    return config
