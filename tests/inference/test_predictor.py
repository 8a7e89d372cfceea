import jax.numpy as jnp
import numpy as np
import tifffile

from segjax.inference.exports import write_label_images
from segjax.inference.predictor import Predictor
from segjax.segmentation import Segmentation
from segjax.tasks import Task
from segjax.typing import IGNORE


def task(predict):
    def segment(outputs):
        return Segmentation.from_labels((outputs["p"] > 0.5).astype(int))

    return Task(None, None, predict, segment, None)


def brighter(params, images):
    return {"p": images[..., 0] * params, "pair": jnp.concatenate([images, images], -1)}


def halved(image):
    return image[::2, ::2].astype(np.float32)


def test_segments_at_the_resolution_of_the_image():
    image = np.zeros((50, 70, 1), np.uint8)
    image[10:30, 20:50] = 1
    predictor = Predictor(task(brighter), jnp.float32(1), prepare=halved, tile=128)
    outputs = predictor.outputs(image)
    assert outputs["p"].shape == (50, 70)
    assert outputs["pair"].shape == (50, 70, 2)
    found = predictor(image)
    assert found.num_instances == 1
    assert abs((found.labels > 0).sum() - 600) < 60


def test_parameters_are_replaced_without_compiling_anew():
    predictor = Predictor(task(brighter), jnp.float32(1), prepare=lambda image: image.astype(np.float32))
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
    plain = Predictor(task(leaning), None, prepare=lambda image: image).outputs(image)["p"]
    mean = Predictor(task(leaning), None, prepare=lambda image: image, flips=True).outputs(image)["p"]
    ramp = plain - image[..., 0]
    turned = [ramp, ramp[:, ::-1], ramp[::-1], ramp[::-1, ::-1]]
    np.testing.assert_allclose(mean, image[..., 0] + np.mean(turned, 0), rtol=1e-5)


def test_written_labels_are_read_back(tmp_path):
    semantic = np.array([[1, 2, IGNORE]])
    few = Segmentation.from_labels(np.array([[1, 2, 0]]), classes=[1, 2], semantic=semantic)
    labels, classes = write_label_images(few, tmp_path / "a.b")
    assert (labels.name, classes.name) == ("a.b_labels.tif", "a.b_classes.tif")
    np.testing.assert_array_equal(tifffile.imread(labels), few.labels)
    np.testing.assert_array_equal(tifffile.imread(classes), [[1, 2, 255]])
    assert tifffile.imread(labels).dtype == np.uint16
    many = Segmentation.from_labels(np.arange(300 * 300).reshape(300, 300))
    labels, _ = write_label_images(many, tmp_path / "many")
    np.testing.assert_array_equal(tifffile.imread(labels), many.labels)
