"""Which method segments cells best for its time, and does training pay against the watershed?

On MNFinder, training pays for U-Nets and Mask R-CNN: with three seeds, their PQ is 0.850 ± 0.008, 0.850 ±
0.005 and 0.828 ± 0.003, that of the watershed 0.777, and the intervals of the differences exclude 0. Fast,
Faster and plain R-CNN do not differ from it significantly. naive, which needs no training, has a PQ of
0.827 and the highest AP at 0.5, 0.877. Two cores of an Intel Xeon beside another sweep, 4 hours, 27
November 2026.
"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, chain, product, sweep
from segjax.classical import METHODS
from segjax.configs.sweeps.budget import DATASET, SEEDS, detector, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the classical methods, the watershed first, and the networks with three seeds."""
    dataset = parse(variant, {"dataset": DATASET})["dataset"]
    for method in ("watershed", *(name for name in METHODS if name != "watershed")):
        yield {"name": method, "config": f"classical:method={method},dataset={dataset}"}
    r_cnn = product(detector("r_cnn", dataset, "vgg16"), sweep("name", ["r_cnn"]))
    others = ("fast_r_cnn", "faster_r_cnn", "mask_r_cnn")
    detectors = chain(*(product(detector(name, dataset), sweep("name", [name])) for name in others))
    unets = product(
        small_network(dataset),
        [
            {"name": "VGG16, transposed convolutions"},
            {"name": "ResNet50, upsampling", "model.encoder": "resnet50", "model.decoder": "upsample"},
        ],
    )
    yield from product(chain(r_cnn, detectors, unets), SEEDS)
