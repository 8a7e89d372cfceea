"""Transposed convolutions or upsampling, nearest or bilinear, and what do skip connections add?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse

DECODERS = [
    {"model.decoder": "transposed"},
    {"model.decoder": "upsample", "model.interpolation": "nearest"},
    {"model.decoder": "upsample", "model.interpolation": "bilinear"},
]


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the decoders, with and without skip connections, with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    return product(small_network(dataset), DECODERS, sweep("model.skips", (True, False)), SEEDS)
