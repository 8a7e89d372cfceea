from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.inference import dense
from segjax.inference.predictor import Detector, create_predictor
from segjax.inference.settings import PredictConfig
from segjax.models.margin import Margin
from segjax.models.norms import GroupNorm, LayerNorm
from segjax.segmentation import Segmentation
from segjax.tasks.detection import DetectionTask


def task(predict):
    def segment(outputs):
        return Segmentation.from_labels((outputs["p"] > 0.5).astype(int))

    return SimpleNamespace(predict=predict, segment=segment, stride=1)


def brighter(params, images):
    return {"p": images[..., 0] * params, "pair": jnp.concatenate([images, images], -1)}


def halved(image):
    return image[::2, ::2].astype(np.float32)


def test_segments_at_the_resolution_of_the_image():
    image = np.zeros((50, 70, 1), np.uint8)
    image[10:30, 20:50] = 1
    predictor = create_predictor(
        task(brighter), jnp.float32(1), prepare=halved, config=PredictConfig(tile=128)
    )
    outputs = predictor.predict_maps(image)
    assert outputs["p"].shape == (25, 35)
    assert outputs["pair"].shape == (25, 35, 2)
    segmentation = predictor(image)
    assert segmentation.shape == (50, 70)
    assert segmentation.num_instances == 1
    assert abs((segmentation.labels > 0).sum() - 600) < 60


def test_uncertainty_is_the_entropy_of_the_mean_probabilities():
    def classes(params, images):
        return {"classes": jnp.concatenate([1 - images, images], -1), "p": images[..., 0]}

    # Log 2 is the maximum of two classes; H(1/4) = 1/4 log 4 + 3/4 log 4/3.
    quarter = (np.log(4) / 4 + 3 / 4 * np.log(4 / 3)) / np.log(2)
    values = {0.0: 0.0, 0.25: quarter, 0.5: 1.0, 0.75: quarter, 1.0: 0.0}
    image = np.array([[*values]], np.float32)[..., None]
    predictor = create_predictor(task(classes), None, prepare=lambda image: image)
    segmentation, uncertainty = predictor.segment_with_uncertainty(image)
    np.testing.assert_allclose(uncertainty, [[*values.values()]], atol=1e-6)
    np.testing.assert_array_equal(segmentation.labels, predictor(image).labels)
    # At the size of the image, if the network predicts at another.
    large = np.full((40, 60, 1), 0.5, np.float32)
    halves = create_predictor(task(classes), None, prepare=halved)
    assert halves.segment_with_uncertainty(large)[1].shape == (40, 60)


def test_parameters_are_replaced_without_compiling_again():
    predictor = create_predictor(
        task(brighter), jnp.float32(1), prepare=lambda image: image.astype(np.float32)
    )
    image = np.ones((20, 20, 1), np.uint8)
    assert predictor(image).num_instances == 1
    predictor.params = jnp.float32(0)
    assert predictor(image).num_instances == 0
    for size in (10, 50, 100, 128):
        predictor(np.ones((size, 20, 1), np.uint8))
    assert predictor._predict._cache_size() == 1


def test_mirrored_predictions_are_turned_back_before_they_are_averaged():
    def leaning(params, images):
        # Not symmetric: knows left from right and top from bottom.
        ramp = jnp.arange(images.shape[2])[None, None] + 10 * jnp.arange(images.shape[1])[None, :, None]
        return {"p": images[..., 0] + ramp}

    image = np.random.default_rng(0).random((128, 128, 1)).astype(np.float32)
    plain = create_predictor(task(leaning), None, prepare=lambda image: image).predict_maps(image)["p"]
    mean = create_predictor(
        task(leaning), None, prepare=lambda image: image, config=PredictConfig(flips=True)
    ).predict_maps(image)["p"]
    ramp = plain - image[..., 0]
    turned = [ramp, ramp[:, ::-1], ramp[::-1], ramp[::-1, ::-1]]
    np.testing.assert_allclose(mean, image[..., 0] + np.mean(turned, 0), rtol=1e-5)


def test_flows_are_mirrored_as_vectors():
    def slopes(params, images):
        # The slope of the image, as a perfect network would predict it in every mirror image.
        rows, columns = (
            jnp.pad(jnp.diff(images[..., 0], axis=axis), [(0, 0), *pads], mode="edge")
            for axis, pads in ((1, [(0, 1), (0, 0)]), (2, [(0, 0), (0, 1)]))
        )
        return {"flows": jnp.stack([rows, columns], axis=-1)}

    y, x = np.mgrid[:128, :128].astype(np.float32)
    image = (3 * y - 4 * x)[..., None]
    mean = create_predictor(
        task(slopes), None, prepare=lambda image: image, config=PredictConfig(flips=True)
    ).predict_maps(image)["flows"]
    np.testing.assert_allclose(mean, np.broadcast_to([3.0, -4.0], mean.shape), rtol=1e-5)


class Detections(DetectionTask):
    """A detector that detects every proposal, or, without any, one box in the middle of the window."""

    stride = 1

    def __init__(self):
        pass  # it has no network

    def predict(self, params, images, size, proposals=None):
        if proposals is None:
            proposals = self.middle(size), jnp.ones((1, 1), bool)
        boxes, valid = proposals
        scores = jnp.arange(boxes.shape[1], dtype=jnp.float32)[None] * params
        classes = jnp.ones(boxes.shape[:2], int)
        return {
            "boxes": boxes,
            "classes": classes,
            "scores": scores,
            "valid": valid,
            "dropped": jnp.ones(1, int),
        }

    def propose(self, params, images, size):
        boxes = self.middle(size)
        ones = jnp.ones((1, 1))
        return {"boxes": boxes, "classes": jnp.zeros((1, 1), int), "scores": ones, "valid": ones > 0}

    @staticmethod
    def middle(size):
        height, width = size
        return jnp.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], jnp.float32)[None]

    def segment(self, outputs):
        labels = np.zeros(outputs["shape"], int)
        for index, (x0, y0, x1, y1) in enumerate(np.round(outputs["boxes"]).astype(int), 1):
            labels[y0:y1, x0:x1] = index
        return Segmentation.from_labels(labels)


def test_objects_are_detected_in_pixels_of_the_image_best_first():
    image = np.zeros((50, 70, 1), np.uint8)
    boxes = np.array([[2, 4, 12, 14], [30, 20, 50, 40]], np.float32)
    detector = create_predictor(Detections(), jnp.float32(1), prepare=halved, propose=lambda image: boxes)
    assert isinstance(detector, Detector)
    assert not isinstance(create_predictor(task(brighter), None, prepare=halved), Detector)
    np.testing.assert_array_equal(detector.propose(image), boxes)
    outputs = detector.detect(image)
    np.testing.assert_allclose(outputs["boxes"], boxes[::-1], atol=1e-5)
    assert outputs["shape"].tolist() == [50, 70]
    assert outputs["valid"].tolist() == [True, True]
    assert detector(image).labels[30, 40] == 1


def test_a_detector_proposes_its_own_boxes():
    image = np.zeros((50, 70, 1), np.uint8)
    detector = create_predictor(Detections(), jnp.float32(1), prepare=halved)
    middle = [[17.5, 12.5, 52.5, 37.5]]
    np.testing.assert_allclose(detector.propose(image), middle, atol=1e-5)
    np.testing.assert_allclose(detector.detect(image)["boxes"], middle, atol=1e-5)


def test_detections_are_not_averaged_over_flips():
    with pytest.raises(InputError, match="flips=True averages maps"):
        create_predictor(Detections(), None, prepare=halved, config=PredictConfig(flips=True))


class Normalised(nn.Module):
    """A convolution and a norm, as a network with one output."""

    norm: nn.Module

    @nn.compact
    def __call__(self, images):
        return self.norm(nn.Conv(8, (3, 3), name="conv")(images))


@pytest.mark.parametrize(
    ("norm", "side"), [(LayerNorm(name="norm"), 128), (GroupNorm(name="norm"), 208)], ids=["layer", "group"]
)
def test_windows_are_as_large_as_training_patches_if_the_maps_depend_on_them(norm, side):
    network, sides = Normalised(norm), set()

    def predict(params, images):
        if images.shape[1] > 1:  # not the strip that the margin is computed on
            sides.add(images.shape[1:3])
        return {"p": network.apply({"params": params}, images)}

    image = np.random.default_rng(0).random((300, 300, 1), np.float32)
    params = network.init(jax.random.key(0), image[None, :8, :8])["params"]
    tiled = SimpleNamespace(predict=predict, stride=16)
    config = PredictConfig(tile=128, overlap=16, trained_patch=200)
    maps = create_predictor(tiled, params, prepare=lambda image: image, config=config).predict_maps(image)
    assert sides == {(side, side)}
    assert maps["p"].shape == (300, 300, 8)


def test_the_margin_is_computed_once_and_only_for_images_of_several_windows(monkeypatch):
    calls = []
    monkeypatch.setattr(
        dense, "receptive_margin", lambda *args, **kwargs: calls.append(args) or Margin(2, True)
    )
    predictor = create_predictor(
        task(brighter), jnp.float32(1), prepare=np.float32, config=PredictConfig(tile=128, overlap=16)
    )
    for side, count in ((100, 0), (128, 0), (129, 1), (300, 1)):
        image = np.ones((side, 20, 1), np.uint8)
        assert predictor(image).num_instances == 1
        assert len(calls) == count


def test_an_overlap_without_a_stride_between_windows_is_refused_before_the_first_image():
    coarse = SimpleNamespace(predict=brighter, stride=32)
    config = PredictConfig(tile=128, overlap=100)
    with pytest.raises(InputError, match=r"^overlap=100 must be at least 32 pixels smaller"):
        create_predictor(coarse, None, prepare=np.float32, config=config)
