from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.measure import label

from segjax.errors import InputError
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import typical_diameter


def discs(diameter, *, side=240):
    """Discs on a grid, [side, side, 1] float32."""
    y, x = np.mgrid[:side, :side] % (2 * diameter) - diameter
    return (x**2 + y**2 < (diameter / 2) ** 2).astype(np.float32)[..., None]


def recording_task():
    """A network that copies the image; `shapes` lists the sizes of its inputs."""
    shapes = []

    def segment(outputs):
        shapes.append(outputs["p"].shape)
        return Segmentation.from_labels(label(outputs["p"] > 0.5))

    return SimpleNamespace(
        predict=lambda _, images: {"p": images[..., 0]}, segment=segment, shapes=shapes, stride=1
    )


def predict(image, **settings):
    task = recording_task()
    method = create_predictor(
        task, jnp.float32(0), prepare=lambda image: image, config=PredictConfig(tile=2048, **settings)
    )
    return method(image), task.shapes


def test_a_known_diameter_scales_the_image_once():
    segmentation, shapes = predict(discs(40), diameter=40.0, trained_diameter=20.0)
    assert shapes == [(120, 120)]
    assert segmentation.shape == (240, 240)
    assert typical_diameter(segmentation.labels) == pytest.approx(40, abs=2)


@pytest.mark.parametrize("diameter", [4.9, 80.1])
def test_a_diameter_that_the_network_cannot_scale_is_refused(diameter):
    with pytest.raises(InputError, match="is outside 5 to 80 pixels, which the network scales to 20"):
        predict(discs(40), diameter=diameter, trained_diameter=20.0)


@pytest.mark.parametrize(("diameter", "side"), [(60, 160), (40, 240), (10, 960)])
def test_an_unknown_diameter_is_estimated(diameter, side):
    segmentation, shapes = predict(discs(diameter, side=480), trained_diameter=20.0)
    assert shapes[0] == (480, 480)
    assert shapes[-1][0] == pytest.approx(side, rel=0.15)
    assert typical_diameter(segmentation.labels) == pytest.approx(diameter, rel=0.1)


def test_a_diameter_near_that_of_training_needs_one_prediction():
    _, shapes = predict(discs(22), trained_diameter=20.0)
    assert set(shapes) == {(240, 240)}


def test_an_image_without_instances_keeps_its_size():
    segmentation, shapes = predict(np.zeros((50, 60, 1), np.float32), trained_diameter=20.0)
    assert segmentation.num_instances == 0
    assert set(shapes) == {(50, 60)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (100, 80)),
        ({"trained_diameter": 20.0}, (50, 40)),
        # A known diameter decides, whatever the annotation shows.
        ({"trained_diameter": 20.0, "diameter": 10.0}, (200, 160)),
        ({"trained_diameter": 1000.0}, (400, 320)),  # the largest factor
    ],
)
def test_the_size_of_the_input_follows_from_the_annotation(settings, expected):
    config = PredictConfig(tile=2048, **settings)
    predictor = create_predictor(recording_task(), jnp.float32(0), prepare=np.asarray, config=config)
    labels = np.zeros((100, 80), np.int32)
    labels[20:60, 20:52] = 1  # the area of a disc of 40 pixels
    image = np.zeros((100, 80, 1), np.float32)
    assert predictor.input_shape(image, Segmentation.from_labels(labels)) == expected
    assert predictor.input_shape(image, Segmentation.empty((100, 80))) == (
        (200, 160) if "diameter" in settings else (100, 80)
    )


def test_the_size_of_the_input_follows_from_the_scale_of_the_images():
    predictor = create_predictor(
        recording_task(),
        jnp.float32(0),
        prepare=lambda image: image[::2, ::2],
        config=PredictConfig(tile=2048),
    )
    assert predictor.input_shape(np.zeros((50, 40, 1)), Segmentation.empty((50, 40))) == (25, 20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": -3.0}, "diameter is -3.0"),
        ({"trained_diameter": 0.0}, "trained_diameter is 0.0; it must be above 0"),
        ({"diameter": 30.0}, "diameter is 30, but the network was trained without data.diameter"),
    ],
)
def test_refuses_impossible_diameters(settings, message):
    with pytest.raises(InputError, match=message):
        PredictConfig(**settings)
