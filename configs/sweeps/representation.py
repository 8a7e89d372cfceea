"""By which map does a network separate touching cells best?

`python scripts/benchmark.py --suite=oracle --config=quickstart` prints the scores of a perfect network.
"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse
from segjax.representations import REPRESENTATIONS


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the representations of instances with three seeds; the first has no map."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    return product(small_network(dataset), sweep("task.instances", REPRESENTATIONS), SEEDS)
