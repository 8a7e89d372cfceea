"""Every method on a real image, scored by the reference implementation of the score."""

import importlib.util
from pathlib import Path

import pytest
import tifffile

from segjax.classical import METHODS, make_method

# AP at 0.5 of a first prototype of each on the same image, which has 125 nuclei.
PROTOTYPES = {"naive": 0.557, "radius": 0.555, "mean_shift": 0.549, "kmeans": 0.551, "watershed": 0.634}


@pytest.mark.peers
@pytest.mark.parametrize("name", sorted(METHODS))
def test_reaches_its_prototype_on_the_sample_of_stardist(name):
    pytest.importorskip("stardist", reason="the peers extra is not installed")
    from stardist.matching import matching

    spec = importlib.util.find_spec("stardist")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "images"
    image, truth = (tifffile.imread(folder / f"{what}2d.tif") for what in ("img", "mask"))
    labels = make_method(name)(image[..., None]).labels
    assert matching(truth, labels, thresh=0.5).accuracy >= PROTOTYPES[name]
