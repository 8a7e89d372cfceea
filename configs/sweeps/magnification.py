"""At which magnification should a network see the images?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep, zipit
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields scales with three seeds; the field of view of the patches is always the same."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    (network,) = small_network(dataset)
    # A network with a diameter sees each image at the scale that gives its cells that diameter.
    field = "data.diameter" if "data.diameter" in network else "data.scale"
    scales = sweep(field, [network.get(field, 1.0) * factor for factor in (1.0, 0.5, 0.75, 1.5)])
    return product([network], zipit(scales, sweep("data.patch_size", (128, 64, 96, 192))), SEEDS)
