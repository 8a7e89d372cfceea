"""Methods without weights: nothing to train, evaluated and applied like any other.

python scripts/evaluate.py --config=configs/classical.py:method=watershed --out=runs/watershed
"""

from ml_collections import ConfigDict

from configs import semantic
from configs.variants import parse

OPTIONS = {"method": ("watershed",), "dataset": semantic.OPTIONS["dataset"]}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a method."""
    chosen = parse(variant, OPTIONS)
    config = ConfigDict()
    config.seed = 0
    # Nothing is trained; they stand here because every config has them.
    config.steps = 0
    config.batch_size = 1
    trained = semantic.get_config(f"dataset={chosen['dataset']}")
    config.dataset = trained.dataset
    config.reference = trained.reference
    config.method = ConfigDict({"name": chosen["method"]})
    if chosen["method"] == config.reference.name:
        config.method = config.reference.copy_and_resolve_references()
    return config
