"""Which loss on the classes gives the best segmentation?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse

SUMS = (
    ("cross_entropy", "dice"),
    ("cross_entropy",),
    ("dice",),
    ("focal", "dice"),
    ("boundary_cross_entropy", "dice"),
    ("cross_entropy", "lovasz"),
)


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields sums of losses with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    losses = [{"name": " + ".join(names), "task.losses": dict.fromkeys(names, 1.0)} for names in SUMS]
    return product(small_network(dataset), losses, SEEDS)
