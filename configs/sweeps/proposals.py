"""Which region proposals are best for Fast R-CNN: selective search, watersheds or an RPN?

With an RPN it is Faster R-CNN. Selective search needs `pip install -e ".[proposals]"`.
"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, chain, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, detector
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the kinds of proposals with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    external = sweep("proposals.method", ("watershed", "selective_search", "both"))
    fast = product(detector("fast_r_cnn", dataset), external)
    return product(chain(fast, detector("faster_r_cnn", dataset)), SEEDS)
