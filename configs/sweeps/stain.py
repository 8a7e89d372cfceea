"""Does stain normalization or stain augmentation help on haematoxylin and eosin?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import SEEDS, small_network
from segjax.configs.variants import parse
from segjax.data.augmentation.policy import OPERATIONS, POLICY

DATASET = ("tnbc", "monuseg", "nuinsseg", "pannuke", "bbbc038", "folder")
STAINED = tuple(name for name in OPERATIONS if name in (*POLICY, "stain"))


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields normalizations, with and without stain augmentation, with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    normalizations = sweep("data.stain", (None, "macenko", "reinhard"))
    return product(small_network(dataset), normalizations, sweep("augment.policy", (POLICY, STAINED)), SEEDS)
