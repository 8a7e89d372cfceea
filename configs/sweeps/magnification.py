"""At which magnification should a network see the images?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep, zipit
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields scales with three seeds; the field of view of the patches is always the same."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    scales = sweep("data.scale", (1.0, 0.5, 0.75, 1.5))
    return product(small_network(dataset), zipit(scales, sweep("data.patch_size", (128, 64, 96, 192))), SEEDS)
