"""Default settings of the configs for each data set."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segjax.classical.settings import REFERENCE_DIAMETER

# The watershed for MNFinder, whose micronuclei are far smaller than its nuclei; images are not scaled. Tuned
# with segjax ablate on training images only.
MNFINDER = {
    "diameter": REFERENCE_DIAMETER,
    "min_area": 5,
    "gamma": 0.3,
    "smoothing": 3.0,
    "h": 1.0,
    "window": 0,
}
# How the distance that a network predicts for MNFinder is flooded. Its three validation images are too few
# for a fit; chosen on training and validation images with three networks. With the defaults, chance decides
# which networks split large nuclei.
MNFINDER_DECODER = {"smoothing": 3.0, "h": 0.2}


class Defaults(NamedTuple):
    """Config defaults for a data set.

    Attributes:
      patch_size: side of training patches in pixels; a patch with margin fits into the smallest image.
      scale: factor by which images are resized before patches are cut.
      headline: class for which AP, PQ and AJI are computed; None for the first foreground class.
      reference: parameters of the reference watershed.
      decoder: settings of the decoder of a network that predicts the distance.
    """

    patch_size: int = 256
    scale: float = 1.0
    headline: str | None = None
    reference: Mapping[str, Any] = {}
    decoder: Mapping[str, Any] = {}


# The first entry is the default.
DATASETS = {
    "mnfinder": Defaults(
        headline="nucleus",
        # Instances below a fifth of the typical area are micronuclei.
        reference={**MNFINDER, "max_hole": 0, "small_fraction": 0.2},
        decoder=MNFINDER_DECODER,
    ),
    "synthetic": Defaults(patch_size=128),
    # A user's folder prepared by segjax prepare; its path is config.dataset.data_dir.
    "folder": Defaults(patch_size=192),
    # The smallest images have 256 x 256 pixels.
    "bbbc038": Defaults(patch_size=192),
    "bbbc039": Defaults(),
    "dsb2018": Defaults(patch_size=192),
    "tnbc": Defaults(),
    "nuinsseg": Defaults(),
    "monuseg": Defaults(),
    "pannuke": Defaults(patch_size=192, headline="neoplastic"),
    "livecell": Defaults(),
}
# Data sets with box annotations only. Their masks are ellipses, so only box detectors can train on them.
BOXES = {
    # At half size, white blood cells of 230 pixels fit the largest anchors.
    "bccd": Defaults(patch_size=192, scale=0.5),
}


def choose(config: ConfigDict, name: str) -> None:
    """Sets the data set defaults in a config."""
    defaults = (DATASETS | BOXES)[name]
    config.dataset.name = name
    config.dataset.headline = defaults.headline
    config.data.scale = defaults.scale
    config.data.patch_size = defaults.patch_size
    config.reference = ConfigDict({"name": "watershed", **defaults.reference})
    if config.get("task", {}).get("instances") == "distance":
        config.task.decoder.update(defaults.decoder)
