"""Benchmarks segjax against torch, torchvision and scikit-learn on this machine.

    python scripts/benchmark.py --config=configs/semantic.py --size=256 --batch=2
    python scripts/benchmark.py --config=configs/semantic.py --size=256 --batch=2 --peer
    python scripts/benchmark.py --suite=classical
    python scripts/benchmark.py --suite=detection --size=512 --batch=1
    python scripts/benchmark.py --suite=augment --size=256 --batch=4
    python scripts/benchmark.py --suite=data --batch=8

The network suite times the network of a config: training step, inference, compilation, memory; with --peer
also the same network in torch. The classical suite times the methods without weights, and their clustering
beside scikit-learn's. The detection suite times RoIAlign, non-maximum suppression and Mask R-CNN beside
torchvision's. The augment suite times augmentation policies beside a training step of the VGG16 U-Net. The
data suite times the preparation of a folder, and reading decoded batches beside a plain loop over files and
torch's DataLoader. Torch and torchvision are in the `peers` extra. Calls are timed alternately; a ratio is
the peer's time over segjax's, so above 1 segjax is faster. Quote ratios rather than seconds.
"""

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
SUITE = flags.DEFINE_enum(
    "suite", "network", ["network", "classical", "detection", "augment", "data"], "What to time."
)
SIZE = flags.DEFINE_integer(
    "size", None, "Side of the images: 256 (a multiple of 16) for network and augment, else 512."
)
BATCH = flags.DEFINE_integer("batch", 2, "All but classical: images at a time.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed calls of each; the median counts.", lower_bound=1)
PEER = flags.DEFINE_bool("peer", False, "Network: time the same network in torch, too.")
LARGEST = flags.DEFINE_integer("largest", 2048, "Classical: side up to which growth is measured.")
COUNT = flags.DEFINE_integer("count", 400, "Data: images that are prepared and read.", lower_bound=10)
MANY = flags.DEFINE_integer("many", 10_000, "Data: small images to see the memory of preparing; 0 for none.")
POINTS = flags.DEFINE_integer("points", 100_000, "Classical: points for MeanShift, at most.")


def main() -> None:
    """Times and prints."""
    if SUITE.value == "classical":
        from suites import classical

        classical.main(
            size=SIZE.value or 512, rounds=ROUNDS.value, largest=LARGEST.value, points=POINTS.value
        )
        return
    if SUITE.value == "detection":
        from suites import detection

        detection.main(size=SIZE.value or 512, batch=BATCH.value, rounds=ROUNDS.value)
        return
    if SUITE.value == "augment":
        from suites import augmentation

        augmentation.main(size=SIZE.value or 256, batch=BATCH.value, rounds=ROUNDS.value)
        return
    if SUITE.value == "data":
        from suites import data

        data.main(
            size=SIZE.value or 512,
            batch=BATCH.value,
            rounds=ROUNDS.value,
            count=COUNT.value,
            many=MANY.value,
        )
        return
    if CONFIG.value is None:
        raise InputError(
            "give --config=FILE, whose network is to be timed, or --suite=classical, detection, augment, data"
        )
    from suites import network

    options = {"batch": BATCH.value, "rounds": ROUNDS.value, "peer": PEER.value}
    network.main(CONFIG.value, size=SIZE.value or 256, **options)


if __name__ == "__main__":
    cli.run(main)
