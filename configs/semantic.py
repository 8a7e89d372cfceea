"""Semantic segmentation with encoder-decoder networks; instances come from a watershed.

    python scripts/train.py --config=configs/semantic.py:encoder=resnet50,decoder=upsample --workdir=runs/r50

The full-width networks need a GPU or TPU; on a CPU, start with configs/quickstart.py.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import datasets
from configs.variants import parse

OPTIONS = {
    "encoder": ("vgg16", "vgg11", "vgg13", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101"),
    "decoder": ("transposed", "upsample"),
    "dataset": tuple(datasets.DATASETS),
    "instances": ("distance", "boundary", "components"),
}
# Geometric operations come first and share one warp. Not in the default: shear, stretch, copy_paste and
# stain (they go before glow) and cutout (it goes last).
POLICY = (
    "scale",
    "rotation",
    "rot90",
    "flip",
    "elastic",
    "glow",
    "illumination",
    "gamma",
    "blur",
    "contrast",
    "brightness",
    "noise",
)
STRENGTHS = {
    # Range of the magnification.
    "scale": (0.7, 1.4),
    # Degrees.
    "shear": 10.0,
    "rotation": 45.0,
    # Range of the magnification of rows over that of columns.
    "stretch": (0.8, 1.25),
    "rot90": True,
    "flip": True,
    # Standard deviation and smoothness of a displacement, pixels.
    "elastic": (2.0, 32.0),
    # Maximum number of copies, and the fraction of a copy that may overlap other instances.
    "copy_paste": 4,
    "copy_paste_overlap": 0.3,
    # Relative change of haematoxylin and eosin.
    "stain": 0.3,
    # Strength relative to the brightness of instances; radius in pixels.
    "glow": 0.6,
    "glow_reach": (4.0, 16.0),
    "illumination": 0.3,
    "gamma": (0.7, 1.5),
    # Standard deviation, pixels.
    "blur": (0.0, 1.0),
    "contrast": 0.2,
    "brightness": 0.1,
    "noise": 0.08,
    # Longest side as a fraction of the patch side, and the number of rectangles.
    "cutout": 0.3,
    "cutout_count": 2,
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant; `OPTIONS` lists the choices."""
    chosen = parse(variant, OPTIONS)

    config = ConfigDict()
    config.seed = 0
    config.steps = 10_000
    config.batch_size = 16

    config.dataset = ConfigDict()
    # The name and the defaults that depend on it are set at the end, from configs/datasets.py.
    config.dataset.name = placeholder(str)
    # Folder of prepared data sets; by default TFDS's own.
    config.dataset.data_dir = placeholder(str)
    # Splits in TFDS syntax, including slices such as `train[:80%]`.
    config.dataset.train = "train"
    config.dataset.validation = "validation"
    config.dataset.test = "test"
    # Whether to train even if information leaks between splits.
    config.dataset.allow_leaks = False
    # The class whose instances AP, PQ and AJI are computed for.
    config.dataset.headline = placeholder(str)

    config.data = ConfigDict()
    # Images are resized by this factor for the network; segmentations keep the original size.
    config.data.scale = 1.0
    # Intensities at these percentiles of an image become 0 and 1.
    config.data.percentiles = (1.0, 99.8)
    # Stain normalization, applied before scaling intensities: "macenko" or "reinhard".
    config.data.stain = placeholder(str)
    config.data.patch_size = placeholder(int)
    # Fraction of the patches that are centred on an instance.
    config.data.foreground_fraction = 0.5
    # Patches are cut larger by this factor to leave a margin for rotation and scale.
    config.data.margin = 1.25
    config.data.workers = 2

    # Augmentation operations in this order; see segjax.data.augmentation.policy for all operations and
    # their strengths.
    config.augment = ConfigDict({"policy": POLICY} | STRENGTHS)

    config.model = ConfigDict()
    config.model.encoder = chosen["encoder"]
    config.model.decoder = chosen["decoder"]
    config.model.width = 1.0
    config.model.skips = True
    # "group" to train from scratch; imported weights have "none" or "frozen_batch".
    config.model.norm = "group"
    config.model.decoder_norm = "group"
    config.model.dtype = "float32"
    config.model.remat = False
    # A file from scripts/convert_weights.py, or the folder of a run, whose matching parameters are loaded.
    config.model.weights = placeholder(str)

    config.task = ConfigDict()
    config.task.name = "semantic"
    config.task.instances = chosen["instances"]
    config.task.losses = ConfigDict({"cross_entropy": 1.0, "dice": 1.0})
    config.task.class_weights = placeholder(tuple)
    config.task.instance_weight = 1.0
    config.task.smoothing = 1.0
    config.task.h = 0.1
    # Minimum instance area in pixels: one number, or one per foreground class.
    config.task.min_area = (20,)
    config.task.boundary_threshold = 0.5

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup = config.steps // 20
    config.optimizer.end_lr_fraction = 0.01
    config.optimizer.weight_decay = 1e-4
    config.optimizer.momentum = 0.9
    config.optimizer.clip = 1.0

    config.train = ConfigDict()
    # Decay of the moving average of parameters used for evaluation; 0 disables it.
    config.train.ema_decay = 0.999
    # Microbatches per step, whose gradients are averaged.
    config.train.accumulate = 1
    config.train.log_every = 20
    config.train.checkpoint_every = 500
    config.train.validate_every = 500
    # Stop after this many validations without improvement; 0 never stops early.
    config.train.patience = 0
    config.train.max_consecutive_skips = 20

    config.mesh = ConfigDict()
    # Data-parallel devices (-1: all remaining), and devices that each replica's parameters are sharded over.
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.predict = ConfigDict()
    # The largest window and the overlap of windows, in pixels of the network's input.
    config.predict.tile = 512
    config.predict.overlap = 64
    # Averages over the image and its mirror images.
    config.predict.flips = False
    # Which checkpoint to use: "best" by validation score, or "latest".
    config.predict.checkpoint = "best"

    # The classical method used as the reference.
    config.reference = ConfigDict()
    datasets.choose(config, chosen["dataset"])
    return config


def sweep() -> Iterator[dict[str, object]]:
    """Yields the ablation of the decoder."""
    for decoder in OPTIONS["decoder"]:
        for skips in (True, False):
            yield {"model.decoder": decoder, "model.skips": skips}
