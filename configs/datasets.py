"""What the configs know of each data set that they train on as they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Defaults(NamedTuple):
    """What a config sets for a data set.

    Attributes:
      patch_size: of the patches to train on; with their margin they fit into the smallest image.
      scale: images are resized by this factor before.
      headline: the class whose instances AP, PQ and AJI are about; None for the first.
      reference: parameters of the watershed that numbers are read against.
    """

    patch_size: int = 256
    scale: float = 1.0
    headline: str | None = None
    reference: Mapping[str, Any] = {}


# The first is the default. The references were tuned on training images of MNFinder and BBBC038 alone.
DATASETS = {
    "mnfinder": Defaults(
        headline="nucleus",
        # Micronuclei are the instances of less than a fifth of the usual area.
        reference={"min_area": 5, "small_fraction": 0.2},
    ),
    "synthetic": Defaults(patch_size=128),
    # What scripts/prepare.py has made of a user's folder; config.dataset.data_dir says where.
    "folder": Defaults(patch_size=192),
    # The smallest images have 256 x 256 pixels.
    "bbbc038": Defaults(
        patch_size=192, reference={"gamma": 0.7, "smoothing": 2.0, "h": 0.5, "max_hole": 100}
    ),
    "bbbc039": Defaults(),
    "dsb2018": Defaults(patch_size=192),
    "tnbc": Defaults(),
    "nuinsseg": Defaults(),
    "monuseg": Defaults(),
    "pannuke": Defaults(patch_size=192, headline="neoplastic"),
    "livecell": Defaults(),
}
# Of these people drew boxes: a method that gives boxes learns from them, one that gives pixels would learn
# to draw ellipses.
BOXES = {
    # Halved, white cells of 230 pixels fit the largest anchors.
    "bccd": Defaults(patch_size=192, scale=0.5),
}


def choose(config: ConfigDict, name: str) -> None:
    """Sets what a config knows of a data set."""
    defaults = (DATASETS | BOXES)[name]
    config.dataset.name = name
    config.dataset.headline = defaults.headline
    config.data.scale = defaults.scale
    config.data.patch_size = defaults.patch_size
    config.reference = ConfigDict({"name": "watershed", **defaults.reference})
