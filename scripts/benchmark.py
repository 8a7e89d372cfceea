"""Benchmarks segjax: speed against torch, torchvision and scikit-learn, and limits of accuracy.

    python scripts/benchmark.py --config=configs/semantic.py --size=256 --batch=2
    python scripts/benchmark.py --config=configs/semantic.py --size=256 --batch=2 --peer
    python scripts/benchmark.py --suite=layers --size=256 --batch=2
    python scripts/benchmark.py --suite=trace --config=semantic --size=256 --batch=2
    python scripts/benchmark.py --suite=classical
    python scripts/benchmark.py --suite=detection --size=512 --batch=1
    python scripts/benchmark.py --suite=augment --size=256 --batch=4
    python scripts/benchmark.py --suite=data --batch=8
    python scripts/benchmark.py --suite=evaluation --count=100
    python scripts/benchmark.py --suite=judges --truth=masks --prediction=masks_of_a_program
    python scripts/benchmark.py --suite=oracle --config=semantic:dataset=bbbc038 --count=60
    python scripts/benchmark.py --suite=robustness --config=semantic:dataset=bbbc038 --methods=nuclei
    python scripts/benchmark.py --suite=scaling --config=semantic:dataset=synthetic
    python scripts/benchmark.py --suite=loop --config=quickstart:dataset=synthetic
    python scripts/benchmark.py --suite=ensemble --config=quickstart:dataset=synthetic
    python scripts/benchmark.py --suite=prediction --config=semantic:dataset=bbbc038 --sizes=4000,20000
    python scripts/benchmark.py --suite=gpu --batch=8

Suites:

    network    training step, inference, compilation and memory of a config; with --peer also in torch
    layers     the kinds of layers of the VGG16 U-Net against torch: where the time goes
    trace      time of a training step and a prediction by module, from a trace of the profiler; with a
               config of detection, those of the Mask R-CNN of the suite detection
    classical  the classical methods, and their clustering against scikit-learn
    detection  RoIAlign, non-maximum suppression and Mask R-CNN against torchvision
    augment    augmentation policies relative to a training step of the VGG16 U-Net
    data       preparation of a folder, and batch reading against a plain loop and torch's DataLoader
    evaluation instance metrics of label images against stardist and loops; large images
    judges     scores of the same label images by segjax and by every public evaluator that is installed
    oracle     scores of perfect, noisy and coarse maps of each representation, on the validation split
    robustness F1 of methods on perturbed images of the test split
    scaling    collectives and memory of a training step on 1 to 256 devices, from the compiled program
    prediction time and memory for mosaics that are segmented in parts, and for a folder of small images
    ensemble   training steps of several seeds together against one seed, as JSON
    gpu        U-Net and Mask R-CNN in bfloat16, RoIAlign and suppression against torch, as JSON
    loop       time that the training loop adds to a step: checks, log, checkpoints

Torch and torchvision are in the `peers` extra. Calls are timed alternately. A ratio is the peer's time
divided by segjax's: above 1, segjax is faster. Quote ratios rather than seconds. The oracle reads the
annotations only, and decodes with `config.task`; for example, `--config.task.decoder.smoothing=2`.
"""

import importlib
import inspect

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
# Suites with images of 256 pixels by default.
SMALL = ("network", "augment", "layers", "trace")
SUITE = flags.DEFINE_enum(
    "suite",
    "network",
    [
        "network",
        "classical",
        "detection",
        "augment",
        "data",
        "evaluation",
        "judges",
        "oracle",
        "robustness",
        "scaling",
        "loop",
        "layers",
        "trace",
        "ensemble",
        "prediction",
        "gpu",
    ],
    "Benchmark suite.",
)
SIZE = flags.DEFINE_integer(
    "size",
    None,
    "Side of the images: 256 (a multiple of 16) for network, layers, trace and augment, else 512.",
)
BATCH = flags.DEFINE_integer(
    "batch", 2, "All suites but classical: number of images per batch.", lower_bound=1
)
ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Number of timed calls; the result is their median.", lower_bound=1
)
PEER = flags.DEFINE_bool("peer", False, "Network: whether to time the same network in torch, too.")
LARGEST = flags.DEFINE_integer(
    "largest", 2048, "Classical: largest image side for the scaling of time and memory."
)
COUNT = flags.DEFINE_integer(
    "count",
    400,
    "Data: number of images to prepare and read. Evaluation: of images to score. Oracle: maximum number.",
    lower_bound=10,
)
METHODS = flags.DEFINE_list(
    "methods", ["reference"], "Robustness: names of methods or folders of runs; reference is the config's."
)
MANY = flags.DEFINE_integer("many", 10_000, "Data: number of small images for the memory test; 0 skips it.")
TRUTH = flags.DEFINE_string("truth", None, "Judges: folder or file of the truth; else a sample of StarDist.")
PREDICTION = flags.DEFINE_string("prediction", None, "Judges: folder or file of the predictions.")
SIZES = flags.DEFINE_list("sizes", ["4000"], "Prediction: sides of the mosaics, pixels.")
WIDTH = flags.DEFINE_float("width", 1.0, "Layers, gpu: multiplies the channels of VGG16.", lower_bound=0.01)
MODEL = flags.DEFINE_string("model", "nuclei", "Prediction: an exported network, or one in the package.")
OUT = flags.DEFINE_string("out", "runs/prediction", "Prediction: folder for mosaics and results.")
SEEDS = flags.DEFINE_integer("seeds", 4, "Ensemble: number of seeds.", lower_bound=1)
POINTS = flags.DEFINE_integer(
    "points", 100_000, "Classical: maximum number of points for scikit-learn's MeanShift."
)


def main() -> None:
    """Runs the selected suite: calls `main` of its module with the flags that it has as arguments."""
    suite = importlib.import_module(f"suites.{SUITE.value}")
    names = inspect.signature(suite.main).parameters
    if "config" in names and CONFIG.value is None:
        raise InputError(
            f"--suite={SUITE.value} needs --config=FILE, whose network or data it uses; others need none,"
            " such as --suite=classical"
        )
    values = {name: flags.FLAGS[name].value for name in names}
    if "size" in names:
        values["size"] = SIZE.value or (256 if SUITE.value in SMALL else 512)
    suite.main(**values)


if __name__ == "__main__":
    cli.run(main)
