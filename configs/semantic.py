"""Encoder-decoder networks that give a class to every pixel, and instances by a watershed.

    python scripts/train.py --config=configs/semantic.py:encoder=resnet50,decoder=upsample --workdir=runs/r50

The full-width networks are made for a GPU or TPU; on a CPU begin with configs/quickstart.py.
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
# Geometry first, in one warp. Left out: shear, stretch, copy_paste and stain, before glow; cutout, last.
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
    # Copies at most, and the part of one that may lie on other instances.
    "copy_paste": 4,
    "copy_paste_overlap": 0.3,
    # Parts by which haematoxylin and eosin change.
    "stain": 0.3,
    # Parts of the brightness of instances; pixels that it reaches.
    "glow": 0.6,
    "glow_radius": (4.0, 16.0),
    "illumination": 0.3,
    "gamma": (0.7, 1.5),
    # Standard deviation, pixels.
    "blur": (0.0, 1.0),
    "contrast": 0.2,
    "brightness": 0.1,
    "noise": 0.08,
    # The longest side, as a part of the patch's, and how many rectangles.
    "cutout": 0.3,
    "cutout_count": 2,
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; `OPTIONS` lists what can be chosen."""
    chosen = parse(variant, OPTIONS)

    config = ConfigDict()
    config.seed = 0
    config.steps = 10_000
    config.batch_size = 16

    config.dataset = ConfigDict()
    # This and what depends on it are set at the end, from configs/datasets.py.
    config.dataset.name = placeholder(str)
    # Where prepared data sets lie; TFDS's own folder if not given.
    config.dataset.data_dir = placeholder(str)
    # Splits as TFDS writes them, `train[:80%]` included.
    config.dataset.train = "train"
    config.dataset.validation = "validation"
    config.dataset.test = "test"
    # Whether to train although images of one split say too much about those of another.
    config.dataset.allow_leaks = False
    # The class whose instances AP, PQ and AJI are about.
    config.dataset.headline = placeholder(str)

    config.data = ConfigDict()
    # Networks see images resized by this factor; segmentations have the size of the image.
    config.data.scale = 1.0
    # Intensities at these percentiles of an image become 0 and 1.
    config.data.percentiles = (1.0, 99.8)
    # Makes stained tissue look alike, before: "macenko" or "reinhard".
    config.data.stain = placeholder(str)
    config.data.patch_size = placeholder(int)
    # Share of the patches that are centred on an instance.
    config.data.foreground_fraction = 0.5
    # Patches are cut this much larger, for rotation and scale to have something to bring in.
    config.data.margin = 1.25
    config.data.workers = 2

    # What is done to a patch, in this order; segjax.data.augmentation.policy says what there is, and what
    # strengths mean.
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
    # A file from scripts/convert_weights.py; or the folder of a run: what fits of its parameters is taken.
    config.model.weights = placeholder(str)

    config.task = ConfigDict()
    config.task.name = "semantic"
    config.task.instances = chosen["instances"]
    config.task.losses = ConfigDict({"cross_entropy": 1.0, "dice": 1.0})
    config.task.class_weights = placeholder(tuple)
    config.task.instance_weight = 1.0
    config.task.smoothing = 1.0
    config.task.h = 0.1
    # Pixels of the smallest instance: one number, or one for each class but the background.
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
    # Decay of the moving average of the parameters that is evaluated; 0 keeps none.
    config.train.ema_decay = 0.999
    # Microbatches whose gradients are averaged for one step.
    config.train.accumulate = 1
    config.train.log_every = 20
    config.train.checkpoint_every = 500
    config.train.validate_every = 500
    # Validations without a better score after which a run stops; 0 for never.
    config.train.patience = 0
    config.train.max_consecutive_skips = 20

    config.mesh = ConfigDict()
    # Devices that hold replicas (-1: all that are left), and over which each replica's parameters are split.
    config.mesh.data = -1
    config.mesh.fsdp = 1

    config.predict = ConfigDict()
    # The largest window and the overlap of windows, in pixels of the network's input.
    config.predict.tile = 512
    config.predict.overlap = 64
    # Averages over the image and its mirror images.
    config.predict.flips = False
    # Which parameters: those with the best validation, or the latest.
    config.predict.checkpoint = "best"

    # The classical method that numbers are read against.
    config.reference = ConfigDict()
    datasets.choose(config, chosen["dataset"])
    return config


def sweep() -> Iterator[dict[str, object]]:
    """The ablation of what the decoder is made of."""
    for decoder in OPTIONS["decoder"]:
        for skips in (True, False):
            yield {"model.decoder": decoder, "model.skips": skips}
