r"""Detection and instance segmentation with R-CNN, Fast R-CNN, Faster R-CNN and Mask R-CNN.

    segjax train --config=rcnn:method=mask_r_cnn --workdir=runs/mask_r_cnn
    segjax train --config=rcnn:method=fast_r_cnn,size=small --workdir=runs/fast_small

Alternating training of RPN and head, as in Ren et al. (2015), takes four runs instead of one:

    segjax train --config=rcnn:method=faster_r_cnn --workdir=runs/1 \
        --config.task.weights.classes=0 --config.task.weights.boxes=0 --config.predict.checkpoint=latest
    segjax train --config=rcnn:method=fast_r_cnn --workdir=runs/2 \
        --config.proposals.method=rpn --config.proposals.workdir=runs/1
    segjax train --config=rcnn:method=faster_r_cnn --workdir=runs/3 \
        --config.task.weights.classes=0 --config.task.weights.boxes=0 --config.predict.checkpoint=latest \
        --config.model.weights=runs/2 \
        --config.model.frozen="('backbone','box_features','box_predictor')"
    segjax train --config=rcnn:method=faster_r_cnn --workdir=runs/4 \
        --config.model.weights=runs/3 --config.model.frozen="('backbone','rpn')"

Run 2 trains on the proposals of run 1 with its own backbone. Runs 3 and 4 keep the backbone of run 2 frozen,
so run 4 ends with a complete Faster R-CNN.

`size=full` uses the papers' widths and needs a GPU or TPU. `size=small` trains for 10 to 60 minutes on two
CPU cores.
"""

from ml_collections import ConfigDict

from segjax.configs import datasets, quickstart, semantic
from segjax.configs.variants import parse, section
from segjax.models.detectors import ANCHOR_SIZES, DetectorConfig
from segjax.tasks.detection_config import DetectionConfig

OPTIONS = {
    "method": ("mask_r_cnn", "faster_r_cnn", "fast_r_cnn", "r_cnn"),
    "backbone": ("resnet50_fpn", "vgg16_fpn", "vgg16", "resnet18_fpn"),
    "dataset": (*datasets.DATASETS, *datasets.BOXES),
    "size": ("full", "small"),
    # "cells" has anchors and heads for cells, the others match the architectures of torchvision.
    "arch": ("cells", "torchvision_v1", "torchvision_v2"),
}
# Number of feature maps that have anchors.
NUM_MAPS = {"resnet50_fpn": 5, "resnet18_fpn": 5, "vgg16_fpn": 4, "vgg16": 1}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant; `OPTIONS` lists the choices."""
    chosen = parse(variant, OPTIONS)
    method, backbone = chosen["method"], chosen["backbone"]
    config = semantic.get_config()
    datasets.choose(config, chosen["dataset"])
    config.steps = 20_000
    config.batch_size = 8

    # Maximum number of instances per window, including the augmentation margin; the smallest are dropped.
    config.data.max_instances = 500

    # All fields and their meaning: segjax.models.detectors.DetectorConfig.
    config.model = section(DetectorConfig(method, backbone, anchor_sizes=ANCHOR_SIZES[NUM_MAPS[backbone]]))
    # A file from segjax convert or segjax export, the name of a network in the package, or the folder of a
    # run: matching parameters are loaded.
    config.model.weights = semantic.placeholder(str)
    # Modules that are not trained, such as ("backbone", "rpn").
    config.model.frozen = ()

    # All fields and their meaning: segjax.tasks.detection_config.DetectionConfig.
    config.task = section(DetectionConfig())
    config.task.name = "detection"

    if chosen["dataset"] == "livecell":
        # LIVECell images hold up to three thousand cells.
        config.data.max_instances = config.task.detect.max_detections = 1000
    if method in ("r_cnn", "fast_r_cnn"):
        # External proposals: "selective_search", "watershed" (of classical segmentations), "both", or "rpn",
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
        # Each RoI costs one encoder pass.
        config.task.rois.batch_size = 64
        # Unlike the paper's R-CNN, this one sees how large a box is: nuclei and micronuclei differ in size.
        config.model.size_unit = 16.0
        # After training, "svm" replaces the classifier by one linear SVM per class and the box regression by
        # ridge regression, as in the paper; "softmax" keeps the trained layers.
        config.task.classifier = "svm"
        # Where the margin of an SVM is 0.
        config.task.detect.score_threshold = 0.5

    config.optimizer.learning_rate = 3e-4
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip = 10.0
    config.predict.tile = 512
    config.predict.overlap = 128

    if chosen["arch"] != "cells":
        _as_torchvision(config, chosen["arch"])
    if chosen["size"] == "small":
        _shrink(config)
    return config


def _as_torchvision(config: ConfigDict, arch: str) -> None:
    """Changes a config to match torchvision's architecture, so that its weights fit."""
    config.model.norm = "frozen_batch"
    config.model.aligned = False
    config.model.anchor_sizes = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    # Cells are smaller than objects in photographs; upscaling makes them match the anchors.
    config.data.scale = 2.0
    config.data.patch_size = 512
    if arch == "torchvision_v2":
        config.model.pyramid_norm = "frozen_batch"
        config.model.rpn_convolutions = 2
        config.model.head = "conv"
        config.model.head_norm = "frozen_batch"


def _shrink(config: ConfigDict) -> None:
    """Shrinks a config to train for 10 to 60 minutes on two CPU cores."""
    # Each proposal of R-CNN costs one pass of the encoder.
    config.steps = 1000 if config.model.method == "r_cnn" else 2400
    config.batch_size = 4
    config.data.patch_size = 128
    config.data.foreground_fraction = 0.8
    config.data.max_instances = 200
    config.augment.update(quickstart.MICROSCOPES)
    config.model.width = 0.25
    config.model.pyramid_channels = 64
    # Without normalization, pyramid and heads learn much more slowly.
    config.model.pyramid_norm = config.model.head_norm = "group"
    config.model.head_channels = 128
    config.model.mask_channels = 64
    config.task.propose.update(pre_nms=300, post_nms=200)
    config.task.anchors.batch_size = 128
    config.task.rois.batch_size = 64
    config.task.detect.max_detections = 300
    if "proposals" in config:
        config.proposals.update({"method": "watershed", "max_proposals": 500})
    if config.model.method == "r_cnn":
        config.model.crop_side = 48
        config.model.crop_context = 4
        config.task.rois.batch_size = 32
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 30
    config.train.ema_decay = 0.99
    config.train.validate_every = config.steps // 2
    config.train.checkpoint_every = 100
