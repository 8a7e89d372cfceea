"""Does RoIAlign help against RoIPool for cells, and how many bins does a RoI need?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, detector
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields poolings and numbers of bins of Mask R-CNN with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    poolings, bins = sweep("model.pooling", ("align", "pool")), sweep("model.bins", (7, 5, 3))
    return product(detector("mask_r_cnn", dataset), poolings, bins, SEEDS)
