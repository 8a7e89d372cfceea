"""What the sweeps have in common: networks that train in minutes on two CPU cores, and three seeds."""

import operator
from collections.abc import Iterable

from ml_collections import ConfigDict

from segjax.ablation.sweeps import sweep
from segjax.configs import datasets, nuclei, quickstart

DATASET = tuple(datasets.DATASETS)
SEEDS = sweep("seed", (0, 1, 2))


def _values(config: ConfigDict, fields: Iterable[str]) -> dict[str, object]:
    return {field: operator.attrgetter(field)(config) for field in fields}


# The settings of the quickstart that do not depend on the data set.
_FIELDS = (
    "steps",
    "batch_size",
    "data.patch_size",
    "data.foreground_fraction",
    "data.margin",
    *(f"augment.{field}" for field in quickstart.MICROSCOPES),
    "model.width",
    "optimizer.learning_rate",
    "optimizer.warmup",
    "train.ema_decay",
    "train.validate_every",
    "train.checkpoint_every",
    "predict.flips",
)
SMALL = _values(quickstart.get_config(), _FIELDS)
# Settings of `nuclei`, for images of all kinds. With those of the quickstart (900 steps, images not scaled),
# the AP at 0.5 on BBBC038 is 0.616, that of the watershed 0.705.
_MIXED_FIELDS = (
    "dataset.channels",
    "data.diameter",
    "data.balance",
    "data.foreground_fraction",
    "data.margin",
    *(f"augment.{field}" for field in nuclei.AUGMENT),
    "task.instances",
    "model.output_stride",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
)
_SIZES = ("batch_size", "data.patch_size", "model.width", "train.checkpoint_every")
MIXED = {
    **_values(nuclei.get_config(), _MIXED_FIELDS),
    **{field: SMALL[field] for field in _SIZES},
    "steps": 2400,  # as many as those of the detectors
    "train.ema_decay": 0.995,
    "train.validate_every": 1200,
}


def small_network(dataset: str) -> list[dict[str, object]]:
    """Returns the one point that the sweeps vary: a VGG16 U-Net of quarter width."""
    if dataset in ("mnfinder", "synthetic"):
        return [{"config": f"quickstart:dataset={dataset}"}]
    return [{"config": f"semantic:dataset={dataset}", **(MIXED if dataset == "bbbc038" else SMALL)}]


def detector(method: str, dataset: str, backbone: str = "vgg16_fpn") -> list[dict[str, object]]:
    """Returns the one point of a small detector of the R-CNN family."""
    return [{"config": f"rcnn:method={method},backbone={backbone},size=small,dataset={dataset}"}]
