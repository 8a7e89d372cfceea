"""Methods that learn nothing, each a function `image -> Segmentation`."""

from collections.abc import Callable

from segjax.classical.watershed import watershed
from segjax.segmentation import Segmentation

METHODS: dict[str, Callable[..., Segmentation]] = {"watershed": watershed}
