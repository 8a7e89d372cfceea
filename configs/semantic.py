"""Semantic segmentation with encoder-decoder networks; `instances=` chooses how touching cells are separated.

    segjax train --config=semantic:encoder=resnet50,decoder=upsample --workdir=runs/r50

The full-width networks need a GPU or TPU; on a CPU, start with configs/quickstart.py.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from segjax.configs import datasets
from segjax.configs.variants import parse, section
from segjax.data.augmentation.policy import POLICY, STRENGTHS
from segjax.models.segmenters import SegmenterConfig
from segjax.tasks.semantic import SemanticConfig
from segjax.train.optimizer import OptimizerConfig

OPTIONS = {
    "encoder": ("vgg16", "vgg11", "vgg13", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101"),
    "decoder": ("transposed", "upsample"),
    "dataset": tuple(datasets.DATASETS),
    "instances": ("distance", "poisson", "flows", "colours", "boundary", "components"),
}


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant; `OPTIONS` lists the choices."""
    chosen = parse(variant, OPTIONS)

    config = ConfigDict()
    config.seed = 0
    # Number of seeds, from `seed` on, that are trained together, each in a folder of its own.
    config.ensemble = 1
    config.steps = 10_000
    config.batch_size = 16

    config.dataset = _dataset()

    config.data = ConfigDict()
    # Images are resized by this factor for the network; segmentations have the original size.
    config.data.scale = 1.0
    # Typical diameter of instances to which each training image is scaled first, in pixels; empty for none.
    config.data.diameter = placeholder(float)
    # How far images of rare kinds are repeated, from 0 to 1, see segjax.data.kinds.
    config.data.balance = 0.0
    # Intensities at these percentiles of an image become 0 and 1.
    config.data.percentiles = (1.0, 99.8)
    # Stain normalization, applied before scaling intensities: "macenko" or "reinhard".
    config.data.stain = placeholder(str)
    config.data.patch_size = placeholder(int)
    # Fraction of the patches that are centred on an instance.
    config.data.foreground_fraction = 0.5
    # Windows are larger than patches by this factor, to provide a margin for rotation and scaling.
    config.data.margin = 1.25
    config.data.workers = 2

    # Augmentation operations in this order; see segjax.data.augmentation.policy for all operations and
    # their strengths.
    config.augment = ConfigDict({"policy": POLICY} | STRENGTHS)

    # All fields and their meaning: segjax.models.segmenters.SegmenterConfig. With the norm `weight`, maps do
    # not depend on the windows of an image.
    config.model = section(
        SegmenterConfig(chosen["encoder"], chosen["decoder"], norm="weight", decoder_norm="weight")
    )
    # A file from segjax convert or segjax export, the name of a network in the package, or the folder of a
    # run: matching parameters are loaded.
    config.model.weights = placeholder(str)
    # Modules that are not trained, such as ("encoder",).
    config.model.frozen = placeholder(tuple)

    # All fields and their meaning: segjax.tasks.semantic.SemanticConfig.
    config.task = section(SemanticConfig(instances=chosen["instances"]))
    config.task.name = "semantic"

    # All fields and their meaning: segjax.train.optimizer.OptimizerConfig.
    config.optimizer = section(OptimizerConfig(warmup=config.steps // 20))

    config.train = ConfigDict()
    # Decay of the moving average of parameters used for evaluation; 0 disables it.
    config.train.ema_decay = 0.999
    # Number of microbatches per batch, whose gradients are averaged to save memory.
    config.train.num_microbatches = 1
    config.train.log_every = 20
    config.train.checkpoint_every = 500
    config.train.validate_every = 500
    # Number of validations without improvement before training stops early; 0 disables early stopping.
    config.train.patience = 0
    # Number of steps in a row without a finite gradient after which a run has diverged. It goes back to its
    # last good checkpoint `rollback` times, each time with half the learning rate.
    config.train.max_consecutive_skips = 20
    config.train.rollback = 2

    config.mesh = ConfigDict()
    # Number of model replicas (-1: all remaining devices), of devices over which the parameters of a replica
    # are split, and of devices over which the rows of an image are split.
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.space = 1

    config.predict = ConfigDict()
    # Size and overlap of windows, in pixels of the network's input; networks with a large receptive field get
    # larger ones.
    config.predict.tile = 512
    config.predict.overlap = 64
    # Whether to average the predictions for the image and its mirror images.
    config.predict.flips = False
    # Typical diameter of instances in pixels, 0 to estimate it for each image; only with data.diameter.
    config.predict.diameter = 0.0
    # Whether training ends with a fit of the settings of the decoder on the validation split, if it has at
    # least ten images, see segjax.experiment.decoder_fit; and the settings that keep their value, such as
    # "decoder.h".
    config.predict.fit = True
    config.predict.fixed = ()
    # Which checkpoint to use: "best" by validation score, or "latest".
    config.predict.checkpoint = "best"

    # The classical method used as the reference.
    config.reference = ConfigDict()
    datasets.choose(config, chosen["dataset"])
    return config


def _dataset() -> ConfigDict:
    """Returns the section of the data set."""
    dataset = ConfigDict()
    # The name and the defaults that depend on it are set at the end, from configs/datasets.py.
    dataset.name = placeholder(str)
    # Classes to learn, the background first; instances of others become background. Empty for all.
    dataset.classes = placeholder(tuple)
    # 3 to make colour images of grey ones, for the weights of a network that was trained on colour.
    dataset.channels = placeholder(int)
    # Folder of prepared data sets; the default is that of TFDS.
    dataset.data_dir = placeholder(str)
    # Splits in TFDS syntax, including slices such as `train[:80%]`.
    dataset.train = "train"
    dataset.validation = "validation"
    dataset.test = "test"
    # Number of training images, drawn by group with config.seed; empty for all.
    dataset.train_images = placeholder(int)
    # Whether to train even if information leaks between splits.
    dataset.allow_leaks = False
    # Class for which AP, PQ and AJI are computed.
    dataset.headline = placeholder(str)
    return dataset
