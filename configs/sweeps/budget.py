"""What the sweeps have in common: networks that train in minutes on two CPU cores, and three seeds."""

from segjax.ablation.sweeps import sweep
from segjax.configs import datasets, quickstart

DATASET = tuple(datasets.DATASETS)
SEEDS = sweep("seed", (0, 1, 2))
# The settings of the quickstart, for data sets of other images.
SMALL = {
    "steps": 900,
    "batch_size": 4,
    "data.patch_size": 128,
    "data.foreground_fraction": 0.7,
    "data.margin": 1.3,
    **{f"augment.{field}": value for field, value in quickstart.MICROSCOPES.items()},
    "model.width": 0.25,
    "optimizer.learning_rate": 6e-3,
    "optimizer.warmup": 20,
    "train.ema_decay": 0.99,
    "train.validate_every": 450,
    "train.checkpoint_every": 100,
    "predict.flips": True,
}


def small_network(dataset: str) -> list[dict[str, object]]:
    """Returns the one point that the sweeps vary: a VGG16 U-Net of quarter width."""
    if dataset in ("mnfinder", "synthetic"):
        return [{"config": f"quickstart:dataset={dataset}"}]
    return [{"config": f"semantic:dataset={dataset}", **SMALL}]


def detector(method: str, dataset: str, backbone: str = "vgg16_fpn") -> list[dict[str, object]]:
    """Returns the one point of a small detector of the R-CNN family."""
    return [{"config": f"rcnn:method={method},backbone={backbone},size=small,dataset={dataset}"}]
