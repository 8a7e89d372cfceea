"""How many annotated images does a network need?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields numbers of training images, None for all; each of three seeds draws other images."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    # MNFinder has 30 training images.
    sizes = (None, 5, 10, 20) if dataset == "mnfinder" else (None, 5, 10, 20, 50)
    return product(small_network(dataset), sweep("dataset.train_images", sizes), SEEDS)
