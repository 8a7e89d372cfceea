"""How many annotated images does a network need?

On MNFinder, five images are enough to be above the watershed, whose AP at 0.5 is 0.782: with 5, 10, 20 and
all 30 images, the AP of three seeds is 0.822 ± 0.046, 0.847 ± 0.069, 0.882 ± 0.019 and 0.862 ± 0.012. With
few images it depends on which ones they are; from 20 on, it does not. Two cores of an Intel Xeon beside
another sweep, 6 to 12 minutes a training, 27 November 2026.
"""

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
