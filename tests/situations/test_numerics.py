"""Maps that do not depend on windows, finite losses, and labels that stay where the image has them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.segmentation import expand_labels

from segjax.data.preprocess import resize_image, resize_labels
from segjax.data.targets import TARGETS
from segjax.inference.dense import DensePredictor
from segjax.inference.settings import PredictConfig
from segjax.losses.combine import LossOptions, weighted_sum
from segjax.models.layers import Convolutions
from segjax.models.segmenters import create_segmenter
from segjax.representations import REPRESENTATIONS
from segjax.segmentation import Segmentation
from segjax.segmentation.resize import resize_segmentation
from segjax.tasks.semantic import SemanticTask
from segjax.typing import IGNORE
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
    full, tiled = (
        predict_maps(task, image, **settings | {"tile": 1024}),
        predict_maps(task, image, **settings),
    )
    margin = 96  # of the largest of these networks, or more
    for name, values in full.items():
        difference = np.abs(tiled[name] - values)[:-margin, :-margin]
        assert difference.max() < 1e-4 * values.std(), name


# Losses and their gradients are finite.

SCENE = RNG.standard_normal((2, 6, 6, 3)).astype(np.float32)
CLASSES = RNG.integers(0, 3, (2, 6, 6)).astype(np.int32)
# Logits [2, 6, 6, 3] and true classes [2, 6, 6].
SITUATIONS = {
    "usual": (SCENE, CLASSES),
    "all ignored": (SCENE, np.full_like(CLASSES, IGNORE)),
    "one image ignored": (SCENE, np.where(np.arange(2)[:, None, None] == 0, IGNORE, CLASSES)),
    "absent class, probability 0": (SCENE - [0, 0, 1e4], CLASSES % 2),
    "present class, probability 0": (SCENE - [0, 0, 1e4], CLASSES),
    "certain": (1e4 * np.eye(3)[CLASSES], CLASSES),
    "certain and wrong": (-1e4 * np.eye(3)[CLASSES], CLASSES),
    "equal": (0 * SCENE, CLASSES),
    "tiny": (1e-40 * SCENE, CLASSES),
    "largest": (np.sign(SCENE) * np.finfo(np.float32).max, CLASSES),
    "largest, all ignored": (np.sign(SCENE) * np.finfo(np.float32).max, np.full_like(CLASSES, IGNORE)),
}
TERMS = [
    ("cross_entropy", {}),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("focal", {"focal_gamma": 2.0}),
    ("focal", {"focal_gamma": 0.5}),
    ("focal", {"focal_gamma": 0.0}),
    ("boundary_cross_entropy", {}),
    ("dice", {"dice_smooth": 1.0}),
    ("dice", {"dice_smooth": 0.0}),
    ("lovasz", {}),
]


@pytest.mark.parametrize("class_weights", [None, (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)], ids=str)
@pytest.mark.parametrize(("name", "options"), TERMS, ids=str)
def test_losses_are_finite(name, options, class_weights):
    term = weighted_sum({name: 1.0}, class_weights=class_weights, options=LossOptions(**options))
    value_and_gradient = jax.jit(jax.value_and_grad(lambda logits, batch: term(logits, batch)[0]))
    for situation, (logits, semantic) in SITUATIONS.items():
        batch = {"semantic": semantic, "labels": np.maximum(semantic, 0)}
        value, gradient = value_and_gradient(logits.astype(np.float32), batch)
        assert np.isfinite(value), situation
        assert np.isfinite(gradient).all(), situation
        assert (gradient[semantic == IGNORE] == 0).all(), situation
        if (semantic == IGNORE).all():
            assert value == 0, situation


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_losses_on_instances_are_finite(name):
    representation = REPRESENTATIONS[name]
    labels = np.kron(np.arange(4).reshape(1, 2, 2), np.ones((2, 3, 3), int)).astype(np.int32)
    batch = {"labels": labels, "semantic": (labels > 0).astype(np.int32)}
    for key in representation.targets:
        batch[key] = np.stack([TARGETS[key](image) for image in labels])

    def loss(outputs):
        return representation.loss(outputs, batch).mean()

    for situation, (outputs, _) in SITUATIONS.items():
        outputs = outputs[..., : representation.channels].astype(np.float32)
        value, gradient = jax.jit(jax.value_and_grad(loss))(outputs)
        assert np.isfinite(value), situation
        assert np.isfinite(gradient).all(), situation


# Labels stay where the image has them, and neither grow nor shrink.


def discs() -> tuple[np.ndarray, np.ndarray]:
    """Returns an image [240, 240, 1] with 36 discs of intensity 1, and their labels."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices((240, 240))
    labels = np.zeros((240, 240), np.int32)
    for index in range(36):
        y, x = 40 * np.array(divmod(index, 6)) + 20 + rng.uniform(-3, 3, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(6, 9) ** 2] = index + 1
    return (labels > 0).astype(np.float32)[..., None], labels


def resize_segmented(labels, factor):
    shape = (round(factor * labels.shape[0]), round(factor * labels.shape[1]))
    return resize_segmentation(Segmentation.from_labels(labels), shape).labels


@pytest.mark.parametrize("resize", [resize_labels, resize_segmented], ids=["training", "prediction"])
@pytest.mark.parametrize("factor", [0.25, 1 / 3, 0.5, 0.6, 0.75, 1.5, 2.0, 2.5])
def test_labels_stay_where_the_image_has_them(factor, resize):
    image, labels = discs()
    image, labels = resize_image(image, factor)[..., 0], resize(labels, factor)
    pixels = np.stack(np.indices(labels.shape), -1)
    with_edge = expand_labels(labels, 3)
    shifts, growth = [], []
    for index in range(1, 37):
        inside, weights = labels == index, image * (with_edge == index)
        shifts.append(
            pixels[inside].mean(0) - np.average(pixels, axis=(0, 1), weights=np.stack(2 * [weights], -1))
        )
        growth.append(np.sqrt(inside.sum() / weights.sum()) - 1)
    assert np.abs(np.mean(shifts, 0)).max() < 0.05
    assert abs(np.mean(growth)) < 0.02


@pytest.mark.parametrize("resize", [resize_labels, resize_segmented], ids=["training", "prediction"])
def test_the_border_of_touching_instances_does_not_move(resize):
    # The border is between the two pixels of which the small image has one.
    labels = np.where(np.arange(40) < 21, 1, 2)[None].repeat(40, 0).astype(np.int32)
    counts = np.bincount(resize(labels, 0.5).ravel())
    assert counts.tolist() == [0, 10 * 20 + 10, 9 * 20 + 10]
