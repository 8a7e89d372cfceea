r"""Instance segmentation with the R-CNN family: class, box, score and, in Mask R-CNN, a mask per object.

    python scripts/train.py --config=configs/rcnn.py:method=mask_r_cnn --workdir=runs/mask_r_cnn
    python scripts/train.py --config=configs/rcnn.py:method=fast_r_cnn,size=small --workdir=runs/fast_small

Alternating training of RPN and head, as in Ren et al. (2015), takes four runs instead of one:

    python scripts/train.py --config=configs/rcnn.py:method=faster_r_cnn --workdir=runs/1 \
        --config.task.weights.classes=0 --config.task.weights.boxes=0 --config.predict.checkpoint=latest
    python scripts/train.py --config=configs/rcnn.py:method=fast_r_cnn --workdir=runs/2 \
        --config.proposals.method=rpn --config.proposals.workdir=runs/1
    python scripts/train.py --config=configs/rcnn.py:method=faster_r_cnn --workdir=runs/3 \
        --config.task.weights.classes=0 --config.task.weights.boxes=0 --config.predict.checkpoint=latest \
        --config.model.weights=runs/2 \
        --config.model.frozen="('backbone','box_features','box_predictor')"
    python scripts/train.py --config=configs/rcnn.py:method=faster_r_cnn --workdir=runs/4 \
        --config.model.weights=runs/3 --config.model.frozen="('backbone','rpn')"

Run 2 trains on the proposals of run 1 with its own backbone. Runs 3 and 4 keep the backbone of run 2 frozen,
so run 4 ends with a complete Faster R-CNN.

`size=full` uses the papers' widths and needs a GPU or TPU. `size=small` trains in minutes on two CPU cores.
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
# Anchor sizes in pixels for each feature map: from micronuclei of 4 pixels to cells of 128.
ANCHORS = {
    "resnet50_fpn": ((4.0, 6.0), (8.0, 12.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    "vgg16_fpn": ((4.0, 8.0), (16.0, 24.0), (32.0, 48.0), (64.0, 128.0)),
    "vgg16": ((4.0, 8.0, 16.0, 32.0, 64.0, 128.0),),
}
ANCHORS["resnet18_fpn"] = ANCHORS["resnet50_fpn"]


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant; `OPTIONS` lists the choices."""
    chosen = parse(variant, OPTIONS)
    method, backbone = chosen["method"], chosen["backbone"]
    config = semantic.get_config()
    datasets.choose(config, chosen["dataset"])
    config.steps = 20_000
    config.batch_size = 8

    # Maximum instances per window, including the augmentation margin; the rest are counted and dropped.
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
    # False matches published weights; True avoids their half-pixel shift.
    config.model.aligned = True
    config.model.canonical_size = 224.0
    # "mlp" or "conv", the box heads of torchvision's first and second version.
    config.model.head = "mlp"
    config.model.head_channels = 1024
    config.model.head_norm = "none"
    config.model.mask_channels = 256
    config.model.dtype = "float32"
    config.model.remat = False
    # A file from scripts/convert_weights.py, or the folder of a run, whose matching parameters are loaded.
    config.model.weights = semantic.placeholder(str)
    # Modules that are not trained, such as ("backbone", "rpn").
    config.model.frozen = ()

    config.task = ConfigDict()
    config.task.name = "instance"
    # Fixed capacities: memory and time depend on them, not on the image.
    config.task.pre_nms = 1000
    config.task.post_nms = 1000
    config.task.candidates = 2000
    config.task.max_detections = 500
    config.task.rpn_batch = 256
    config.task.roi_batch = 256
    config.task.roi_positive_fraction = 0.25
    # Every remaining detection counts as an object; the usual 0.05 is meant for precision-recall curves.
    config.task.score_threshold = 0.4
    # "boxes", or "masks" to suppress by the overlap of masks as well.
    config.task.suppression = "boxes"
    config.task.nms = 0.5
    config.task.mask_nms = 0.3
    config.task.mask_threshold = 0.5
    config.task.min_area = 5
    # Weights of the loss terms.
    config.task.weights = ConfigDict({"classes": 1.0, "boxes": 1.0})
    if method in ("faster_r_cnn", "mask_r_cnn"):
        config.task.weights.update({"objectness": 1.0, "proposals": 1.0})
    if method == "mask_r_cnn":
        config.task.weights.masks = 1.0

    if chosen["dataset"] == "livecell":
        # LIVECell images hold up to three thousand cells.
        config.data.max_instances = config.task.max_detections = 1000
    if method in ("r_cnn", "fast_r_cnn"):
        # External proposals: "selective_search", "segmentations" (from classical methods), "both", or "rpn",
        # the RPN of the Faster or Mask R-CNN run in `workdir`.
        config.proposals = ConfigDict({"method": "both", "max_proposals": 2000})
        config.proposals.workdir = semantic.placeholder(str)
        # Axis-aligned boxes stay tight only under flips and quarter turns.
        config.augment.rotation = 0.0
        config.augment.elastic = (0.0, 1.0)
    if backbone == "vgg16":
        # The paper's head: its first two layers are VGG16's fully connected layers.
        config.model.head_channels = 4096
    if method == "r_cnn":
        # Side of the warped crops and the width of the context border in them, pixels.
        config.model.crop_side = 224
        config.model.crop_context = 16
        # Each RoI costs one encoder pass.
        config.task.roi_batch = 64
        # After training, "svm" replaces the classifier by one linear SVM per class and the box regression by
        # ridge regression, as in the paper; "softmax" keeps the trained layers.
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
    """Changes a config to match torchvision's architecture, so that its weights fit."""
    config.model.norm = "frozen_batch"
    config.model.aligned = False
    config.model.anchor_sizes = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    # Cells are smaller than objects in photographs; upscaling makes them match the anchors.
    config.data.scale = 2.0
    config.data.patch_size = 512
    if form == "v2":
        config.model.pyramid_norm = "frozen_batch"
        config.model.rpn_convolutions = 2
        config.model.head = "conv"
        config.model.head_norm = "frozen_batch"


def _shrink(config: ConfigDict) -> None:
    """Shrinks a config to train in minutes on two CPU cores."""
    config.steps = 800
    config.batch_size = 4
    config.data.patch_size = 128
    config.data.foreground_fraction = 0.8
    config.data.max_instances = 200
    config.augment.update(quickstart.MICROSCOPES)
    config.model.width = 0.25
    config.model.pyramid_channels = 64
    # In so few steps, a pyramid and heads without normalization learn only half as much.
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
    """Yields the ablation of RoI pooling."""
    for pooling in ("align", "pool"):
        for bins in (7, 5):
            yield {"model.pooling": pooling, "model.bins": bins}
