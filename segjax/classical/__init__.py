"""Classical segmentation methods: functions `image -> Segmentation` without training."""

import functools
from collections.abc import Callable

from segjax.classical.kmeans import kmeans
from segjax.classical.mean_shift import mean_shift
from segjax.classical.naive import naive
from segjax.classical.radius import radius
from segjax.classical.stages import Stages
from segjax.classical.watershed import watershed
from segjax.segmentation import Segmentation


def _result(stages: Callable[..., Stages]) -> Callable[..., Segmentation]:
    """Wraps a method so that it returns only the segmentation."""

    @functools.wraps(stages)
    def method(*args: object, **settings: object) -> Segmentation:
        return stages(*args, **settings).segmentation

    return method


# Methods that return all their intermediate stages.
STAGES: dict[str, Callable[..., Stages]] = {
    "naive": naive,
    "radius": radius,
    "mean_shift": mean_shift,
    "kmeans": kmeans,
    "watershed": watershed,
}

METHODS: dict[str, Callable[..., Segmentation]] = {name: _result(stages) for name, stages in STAGES.items()}
