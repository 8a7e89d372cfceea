"""The R-CNN family: objects one by one, each with a class, a box, a score and, in Mask R-CNN, its pixels.

    python scripts/train.py --config=configs/rcnn.py:method=mask_r_cnn --workdir=runs/mask_r_cnn
    python scripts/train.py --config=configs/rcnn.py:method=fast_r_cnn,size=small --workdir=runs/fast_small

Training RPN and head in turns, as Ren et al. (2015) did, instead of both at once, takes four runs:

    F=configs/rcnn.py:method=faster_r_cnn; RPN="--config.task.weights.classes=0 --config.task.weights.boxes=0
        --config.predict.checkpoint=latest"
    python scripts/train.py --config=$F --workdir=runs/1 $RPN
    python scripts/train.py --config=configs/rcnn.py:method=fast_r_cnn --workdir=runs/2
        --config.proposals.method=rpn --config.proposals.workdir=runs/1
    python scripts/train.py --config=$F --workdir=runs/3 $RPN --config.model.weights=runs/2
        --config.model.frozen="('backbone','box_features','box_predictor')"
    python scripts/train.py --config=$F --workdir=runs/4 --config.model.weights=runs/3
        --config.model.frozen="('backbone','rpn')"

The second learns from the boxes of the first with a backbone of its own; the third and fourth keep the
second's, so that the last one has a whole Faster R-CNN.

`size=full` has the papers' widths and is made for a GPU or TPU; `size=small` learns in minutes on two CPU
cores.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import datasets, quickstart, semantic
from configs.variants import parse

OPTIONS = {
    "method": ("mask_r_cnn", "faster_r_cnn", "fast_r_cnn", "r_cnn"),
    "backbone": ("resnet50_fpn", "vgg16_fpn", "vgg16", "resnet18_fpn"),
    "dataset": (*datasets.DATASETS, *datasets.BOXES),
    "size": ("full", "small"),
    # "v1" and "v2" are torchvision's networks, for its weights; "cells" has anchors and heads for cells.
    "form": ("cells", "v1", "v2"),
}
# In pixels, for each map of a backbone: from micronuclei of 4 pixels to cells of 128.
ANCHORS = {
    "resnet50_fpn": ((4.0, 6.0), (8.0, 12.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    "vgg16_fpn": ((4.0, 8.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    "vgg16": ((4.0, 8.0, 16.0, 32.0, 64.0, 128.0),),
}
ANCHORS["resnet18_fpn"] = ANCHORS["resnet50_fpn"]


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; `OPTIONS` lists what can be chosen."""
    chosen = parse(variant, OPTIONS)
    method, backbone = chosen["method"], chosen["backbone"]
    config = semantic.get_config()
    datasets.choose(config, chosen["dataset"])
    config.steps = 20_000
    config.batch_size = 8

    # Instances of a window, the margin for augmentation included; more are counted and left out.
    config.data.max_instances = 500

    config.model = ConfigDict()
    config.model.method = method
    config.model.backbone = backbone
    config.model.width = 1.0
    # "group" to train from scratch; imported weights have "none" or "frozen_batch".
    config.model.norm = "group"
    config.model.pyramid_channels = 256
    config.model.pyramid_norm = "none"
    config.model.anchor_sizes = ANCHORS[backbone]
    config.model.anchor_ratios = (0.5, 1.0, 2.0)
    config.model.rpn_convolutions = 1
    # "align" for RoIAlign, "pool" for RoIPool.
    config.model.pooling = "align"
    config.model.bins = 7
    config.model.sampling_ratio = 2
    # False is what published weights were trained with; True is right to the half pixel.
    config.model.aligned = True
    config.model.canonical_size = 224.0
    # "mlp" or "conv", the box heads of torchvision's first and second version.
    config.model.head = "mlp"
    config.model.head_channels = 1024
    config.model.head_norm = "none"
    config.model.mask_channels = 256
    config.model.dtype = "float32"
    config.model.remat = False
    # A file from scripts/convert_weights.py; or the folder of a run: what fits of its parameters is taken.
    config.model.weights = semantic.placeholder(str)
    # Parts that stay as they begin, such as ("backbone", "rpn").
    config.model.frozen = ()

    config.task = ConfigDict()
    config.task.name = "instance"
    # Capacities: memory and time follow them, whatever the image.
    config.task.pre_nms = 1000
    config.task.post_nms = 1000
    config.task.candidates = 2000
    config.task.max_detections = 500
    config.task.rpn_batch = 256
    config.task.roi_batch = 256
    config.task.roi_positive_fraction = 0.25
    # Every object that is left counts as one, so it has to be likely: 0.05 is for curves of precision.
    config.task.score_threshold = 0.4
    # "boxes", or "masks" to suppress by the overlap of masks as well.
    config.task.suppression = "boxes"
    config.task.nms = 0.5
    config.task.mask_nms = 0.3
    config.task.mask_threshold = 0.5
    config.task.min_area = 5
    # Of the terms of the loss.
    config.task.weights = ConfigDict({"classes": 1.0, "boxes": 1.0})
    if method in ("faster_r_cnn", "mask_r_cnn"):
        config.task.weights.update({"objectness": 1.0, "proposals": 1.0})
    if method == "mask_r_cnn":
        config.task.weights.masks = 1.0

    if chosen["dataset"] == "livecell":
        # Its images hold up to three thousand cells.
        config.data.max_instances = config.task.max_detections = 1000
    if method in ("r_cnn", "fast_r_cnn"):
        # Boxes from outside: "selective_search", "segmentations" (of classical methods), or "both"; or "rpn",
        # those of the run in `workdir`, of Faster or Mask R-CNN.
        config.proposals = ConfigDict({"method": "both", "max_proposals": 2000})
        config.proposals.workdir = semantic.placeholder(str)
        # Upright boxes stay tight under flips and quarter turns only.
        config.augment.rotation = 0.0
        config.augment.elastic = (0.0, 1.0)
    if backbone == "vgg16":
        # The head of the paper, whose first two layers are VGG16's own.
        config.model.head_channels = 4096
    if method == "r_cnn":
        # Side of the squares that proposals are warped to, and how much of it shows what is around them.
        config.model.crop_side = 224
        config.model.crop_context = 16
        # Each RoI costs a pass of the encoder.
        config.task.roi_batch = 64
        # After training, "svm" replaces the classes by one linear SVM for each, and the boxes by ridge
        # regression, as the paper has it; "softmax" keeps what was trained.
        config.task.classifier = "svm"

    config.optimizer.learning_rate = 3e-4
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip = 10.0
    config.predict.tile = 512
    config.predict.overlap = 128

    if chosen["form"] != "cells":
        _as_torchvision(config, chosen["form"])
    if chosen["size"] == "small":
        _shrink(config)
    return config


def _as_torchvision(config: ConfigDict, form: str) -> None:
    """Makes the network one that torchvision's weights fit."""
    config.model.norm = "frozen_batch"
    config.model.aligned = False
    config.model.anchor_sizes = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    # Cells are smaller than what people photograph: enlarged, they meet anchors of their size.
    config.data.scale = 2.0
    config.data.patch_size = 512
    if form == "v2":
        config.model.pyramid_norm = "frozen_batch"
        config.model.rpn_convolutions = 2
        config.model.head = "conv"
        config.model.head_norm = "frozen_batch"


def _shrink(config: ConfigDict) -> None:
    """Makes a config learn in minutes on two CPU cores."""
    config.steps = 800
    config.batch_size = 4
    config.data.patch_size = 128
    config.data.foreground_fraction = 0.8
    config.data.max_instances = 200
    config.augment.update(quickstart.MICROSCOPES)
    config.model.width = 0.25
    config.model.pyramid_channels = 64
    # In so few steps a pyramid and heads without norms learn half as much.
    config.model.pyramid_norm = config.model.head_norm = "group"
    config.model.head_channels = 128
    config.model.mask_channels = 64
    config.task.pre_nms = 300
    config.task.post_nms = 200
    config.task.rpn_batch = 128
    config.task.roi_batch = 64
    config.task.max_detections = 300
    if "proposals" in config:
        config.proposals.update({"method": "segmentations", "max_proposals": 500})
    if config.model.method == "r_cnn":
        config.model.crop_side = 48
        config.model.crop_context = 4
        config.task.roi_batch = 32
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 30
    config.train.ema_decay = 0.99
    config.train.validate_every = config.steps // 2
    config.train.checkpoint_every = 100


def sweep() -> Iterator[dict[str, object]]:
    """The ablation of how RoIs are cut out of the maps."""
    for pooling in ("align", "pool"):
        for bins in (7, 5):
            yield {"model.pooling": pooling, "model.bins": bins}
