"""Which settings of a classical method are best on training images?

segjax ablate --search --sweep=tuning:method=kmeans --split=train --images=8 --workdir=runs/kmeans_search
"""

from collections.abc import Iterator
from typing import Any

from segjax.ablation.sweeps import Overrides
from segjax.classical import METHODS
from segjax.configs import classical
from segjax.configs.sweeps.budget import DATASET
from segjax.configs.variants import parse

SHARED = {"gamma": (0.3, 0.5, 0.7, 1.0), "smoothing": (1.0, 2.0, 3.0), "max_hole": (0, 100)}
SEARCHED: dict[str, dict[str, tuple[Any, ...]]] = {
    "naive": {"threshold_fraction": (0.5, 0.75, 1.0), "min_core": (4, 12, 30)},
    "radius": {"eps": (0.4, 0.6, 0.8)},
    "mean_shift": {"bandwidth_fraction": (0.2, 0.35, 0.5)},
    "kmeans": {"num_clusters": (2, 3, 4), "foreground_clusters": (None, 1), "h": (0.5, 0.75, 1.0, 1.5)},
    "watershed": {"h": (0.5, 0.75, 1.0, 1.5)},
}


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the config, then one field at a time; classes need no classifier here."""
    chosen = parse(variant, {"method": (*METHODS, "all"), "dataset": DATASET})
    for method in METHODS if chosen["method"] == "all" else (chosen["method"],):
        variant = f"method={method},dataset={chosen['dataset']}"
        settings = classical.get_config(variant).methods[method]
        base = {"config": f"classical:{variant}", "classifier.fit": False}
        yield base
        for name, values in (SEARCHED[method] | SHARED).items():
            for value in values:
                if value != settings[name]:
                    yield {**base, f"methods.{method}.{name}": value}
