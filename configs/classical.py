"""Classical segmentation methods, which need no training.

segjax evaluate --config=classical:method=kmeans --out=runs/kmeans
segjax evaluate --config=classical:method=all --out=runs/classical
segjax ablate --search --sweep=tuning:method=kmeans --split=train --workdir=runs/kmeans_search
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from segjax.classical import METHODS
from segjax.configs import datasets, semantic
from segjax.configs.variants import parse, section

# The first of each is the default.
OPTIONS = {
    "method": ("watershed", *(name for name in METHODS if name != "watershed"), "all"),
    "dataset": semantic.OPTIONS["dataset"],
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of one method, or of all of them."""
    chosen = parse(variant, OPTIONS)
    config = ConfigDict()
    config.seed = 0
    # Not used by classical methods, but required in every config.
    config.steps = 0
    config.batch_size = 1
    trained = semantic.get_config(f"dataset={chosen['dataset']}")
    config.dataset = trained.dataset
    config.reference = trained.reference
    # All fields and their meaning: segjax.classical.settings.
    config.methods = ConfigDict()
    for name in METHODS if chosen["method"] == "all" else (chosen["method"],):
        settings = TUNED.get(chosen["dataset"], {}).get(name, {})
        config.methods[name] = section(METHODS[name].settings(**settings))
        if "seed" in config.methods[name]:
            # That of the config, unless it is set.
            config.methods[name].seed = config.get_oneway_ref("seed")

    # Classifies instances by their measurements if there is more than one foreground class.
    config.classifier = ConfigDict()
    # Whether evaluation fits the classifier on the training split.
    config.classifier.fit = True
    # A classifier file from an earlier evaluation, used instead of fitting.
    config.classifier.file = placeholder(str)
    return config


# Tuned with segjax ablate on training images only.
COMMON = {name: datasets.MNFINDER[name] for name in ("diameter", "min_area")}
TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "mnfinder": {
        "naive": {
            **COMMON,
            "threshold_fraction": 0.5,
            "min_core": 30,
            "max_hole": 0,
            "smoothing": 1.0,
            "window": 101,
        },
        "radius": {**COMMON, "gamma": 0.3, "eps": 0.8, "smoothing": 3.0},
        "mean_shift": {**COMMON, "bandwidth_fraction": 0.5, "smoothing": 3.0},
        "kmeans": {
            **COMMON,
            "gamma": 0.3,
            "num_clusters": 2,
            "smoothing": 2.0,
            "h": 1.5,
            "max_hole": 0,
        },
        "watershed": datasets.MNFINDER,
    },
}
