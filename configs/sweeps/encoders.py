"""Which encoder segments best for its time, and do published weights help?

`start=pretrained` has full width, and reads vgg16.safetensors, vgg16_bn.safetensors and resnet50.safetensors,
the files of segjax convert.
"""

from collections.abc import Iterator

from segjax.ablation.sweeps import Overrides, product, sweep
from segjax.configs.sweeps.budget import DATASET, SEEDS, small_network
from segjax.configs.variants import parse


def get_sweep(variant: str = "") -> Iterator[Overrides]:
    """Yields the encoders with three seeds."""
    chosen = parse(variant, {"dataset": DATASET, "start": ("scratch", "pretrained")})
    encoders = sweep("model.encoder", ("vgg16", "vgg19", "resnet18", "resnet50"))
    if chosen["start"] == "pretrained":
        encoders = [
            {
                "name": name,
                "model.encoder": encoder,
                "model.norm": norm,
                "model.weights": f"{name}.safetensors",
                "model.width": 1.0,
            }
            for name, encoder, norm in (
                ("vgg16", "vgg16", "none"),
                ("vgg16_bn", "vgg16", "frozen_batch"),
                ("resnet50", "resnet50", "frozen_batch"),
            )
        ]
    return product(small_network(chosen["dataset"]), encoders, SEEDS)
