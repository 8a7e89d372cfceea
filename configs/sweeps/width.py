"""How wide must a network be?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields widths as a fraction of VGG16, with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    return product(small_network(dataset), sweep("model.width", (0.25, 0.0625, 0.125, 0.5)), SEEDS)
