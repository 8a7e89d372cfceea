"""Which kinds of augmentation help?"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse
from segjax.data.augmentation.policy import OPERATIONS, POLICY

CONTENT = ("copy_paste", "cutout")
POLICIES = {
    "default": POLICY,
    "none": (),
    **{
        f"without {kind}": tuple(name for name in POLICY if OPERATIONS[name].kind != kind)
        for kind in ("geometric", "photometric", "image")
    },
    "with copy_paste and cutout": tuple(name for name in OPERATIONS if name in (*POLICY, *CONTENT)),
}


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the default policy, none, and those without one kind, with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    policies = [{"name": name, "augment.policy": policy} for name, policy in POLICIES.items()]
    return product(small_network(dataset), policies, SEEDS)
