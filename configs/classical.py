"""Classical segmentation methods, which need no training.

segjax evaluate --config=classical:method=kmeans --out=runs/kmeans
segjax evaluate --config=classical:method=all --out=runs/classical
segjax ablate --config=classical:method=kmeans --out=runs/kmeans_search
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from segjax.configs import semantic
from segjax.configs.variants import parse

METHODS = ("naive", "radius", "mean_shift", "kmeans", "watershed")
OPTIONS = {"method": ("watershed", *METHODS[:-1], "all"), "dataset": semantic.OPTIONS["dataset"]}


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
    # The settings of each method that differ from the defaults of segjax/classical/settings.py.
    config.methods = ConfigDict()
    for name in METHODS if chosen["method"] == "all" else (chosen["method"],):
        config.methods[name] = ConfigDict(TUNED.get(chosen["dataset"], {}).get(name, {}))
    if "kmeans" in config.methods:
        # Any of basic, gabor, local_binary_pattern, rgb, hsv, lab and hed.
        config.methods.kmeans.features = ("basic",)

    # Classifies instances by their measurements if there is more than one foreground class.
    config.classifier = ConfigDict()
    # Whether evaluation fits the classifier on the training split.
    config.classifier.fit = True
    # A classifier file from an earlier evaluation, used instead of fitting.
    config.classifier.file = placeholder(str)
    return config


def sweep(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """Yields the settings that segjax ablate tries for each method of a config."""
    for method in config.methods:
        for name, values in (SEARCHED[method] | SHARED).items():
            for value in values:
                yield {f"methods.{method}.{name}": value}


# Tuned with segjax ablate on training images only.
TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "mnfinder": {
        "naive": {"min_area": 5, "threshold_fraction": 0.5, "min_core": 30, "max_hole": 0},
        "radius": {"min_area": 5, "gamma": 0.3, "eps": 0.8, "smoothing": 3.0},
        "mean_shift": {"min_area": 5, "bandwidth_fraction": 0.5, "smoothing": 3.0},
        "kmeans": {"min_area": 5, "gamma": 0.3, "num_clusters": 2, "smoothing": 2.0, "h": 1.5},
        "watershed": {"min_area": 5, "max_hole": 100},
    },
    "bbbc038": {
        "naive": {"threshold_fraction": 1.0, "min_core": 12},
        "radius": {"gamma": 1.0, "eps": 0.8, "smoothing": 2.0},
        "mean_shift": {"max_hole": 0},
        "kmeans": {"gamma": 0.7, "num_clusters": 4, "h": 1.0, "max_hole": 100},
        "watershed": {"gamma": 0.7, "smoothing": 2.0, "h": 0.5, "max_hole": 100},
    },
}

SHARED = {"gamma": (0.3, 0.5, 0.7, 1.0), "smoothing": (1.0, 2.0, 3.0), "max_hole": (0, 100)}
SEARCHED: dict[str, dict[str, tuple[Any, ...]]] = {
    "naive": {"threshold_fraction": (0.5, 0.75, 1.0), "min_core": (4, 12, 30)},
    "radius": {"eps": (0.4, 0.6, 0.8)},
    "mean_shift": {"bandwidth_fraction": (0.2, 0.35, 0.5)},
    "kmeans": {"num_clusters": (2, 3, 4), "foreground_clusters": (None, 1), "h": (0.5, 0.75, 1.0, 1.5)},
    "watershed": {"h": (0.5, 0.75, 1.0, 1.5)},
}
