"""By which map does a network separate touching cells best?

On MNFinder by the distance, or the solution of Poisson's equation: the AP at 0.5 of three seeds is 0.862 ±
0.012 and 0.864 ± 0.009, with colours 0.838 ± 0.026, boundaries 0.850 ± 0.016, no map 0.848 ± 0.003, and flows
0.791 ± 0.009, which split large nuclei after 900 steps. Two cores of an Intel Xeon, 5 to 7 minutes a
training, 27 November 2026.

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
