"""Numbers that must not depend on windows, and that stay finite."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.inference.dense import DensePredictor
from segjax.inference.settings import PredictConfig
from segjax.inference.tiling import Windows
from segjax.models.layers import Convolutions
from segjax.models.segmenters import create_segmenter
from segjax.tasks.semantic import SemanticTask
from tests.models.quick import random_variables

pytestmark = pytest.mark.usefixtures("quick_to_compile")
RNG = np.random.default_rng(0)


# A prediction in windows is the prediction of the full image.


def network(encoder: str = "vgg11", norm: str = "none", **settings) -> SemanticTask:
    """A segmenter with random parameters."""
    model = create_segmenter(
        encoder,
        outputs={"classes": 3, "distance": 1},
        width=0.1,
        norm=norm,
        decoder_norm=norm,
        convolutions=1,
        **settings,
    )
    return SemanticTask(model, 3)


def convolutions() -> SimpleNamespace:
    """Eight convolutions of 3 x 3."""
    model = Convolutions(8, 4)

    def predict(params, images):
        return {"map": model.apply({"params": params}, images)}

    return SimpleNamespace(model=model, predict=predict, stride=1)


def predict_maps(task, image, **settings):
    """Returns the maps for random parameters, by name."""
    params = random_variables(task.model, jnp.zeros((1, 64, 64, image.shape[2])))["params"]
    predictor = DensePredictor(task, params, prepare=lambda image: image, config=PredictConfig(**settings))
    return predictor.predict_maps(image)


@pytest.mark.parametrize(
    ("task", "shape", "settings"),
    [
        (convolutions(), (200, 300), {"tile": 128, "overlap": 32}),
        (convolutions(), (417, 430), {"tile": 100, "overlap": 0}),
        (network(), (417, 430), {"tile": 128}),
        (network(), (417, 430), {"tile": 128, "flips": True}),
        (network(norm="layer"), (417, 430), {"tile": 128}),
        (network(norm="frozen_batch"), (200, 500), {"tile": 128}),
        (network(decoder="upsample", output_stride=4), (417, 430), {"tile": 128}),
        (network(decoder="upsample", interpolation="nearest", skips=False), (417, 430), {"tile": 400}),
    ],
    ids=["eight 3 x 3", "tile 100", "vgg11", "flips", "layer", "frozen batch", "output stride 4", "segnet"],
)
def test_maps_do_not_depend_on_the_windows(task, shape, settings):
    image = RNG.standard_normal((*shape, 1)).astype(np.float32)
    full, tiled = predict_maps(task, image, **settings | {"tile": 1024}), predict_maps(task, image, **settings)
    margin = 96  # of the largest of these networks, or more
    for name, values in full.items():
        difference = np.abs(tiled[name] - values)[:-margin, :-margin]
        assert difference.max() < 1e-4 * values.std(), name
