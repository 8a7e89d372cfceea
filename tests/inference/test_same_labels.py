"""Labels are the same pixel by pixel, whatever the batch, the devices, the processes and the order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.tasks.semantic import SemanticConfig, SemanticTask
from segjax.train import processes
from tests.train.threads import run_processes

RANDOM = np.random.default_rng(0)
# Images of one window and of several.
SHAPES = ((64, 64), (150, 90), (64, 64), (200, 260), (40, 30), (128, 128), (90, 150), (64, 64))
IMAGES = [RANDOM.uniform(0, 1, (*shape, 1)).astype(np.float32) for shape in SHAPES]


class Network:
    """Two convolutions of random weights: the logits of many pixels are close to each other."""

    stride = 1

    def apply(self, variables, images):
        x = images
        for kernel in variables["params"]["kernels"]:
            x = jax.lax.conv_general_dilated(
                jax.nn.relu(x) - 0.3, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return {"classes": x}


@pytest.fixture(scope="module")
def params():
    widths = (1, 16, 3)
    return {
        "kernels": [
            jnp.asarray(RANDOM.normal(0, 1, (5, 5, *pair)), jnp.float32)
            for pair in itertools.pairwise(widths)
        ]
    }


def make(params):
    return create_predictor(
        SemanticTask(Network(), 3, SemanticConfig(instances="components")),
        params,
        prepare=lambda image: image,
        config=PredictConfig(tile=128, overlap=32),
    )


@pytest.fixture(scope="module")
def expected(params):
    predictor = make(params)
    results = [predictor(image) for image in IMAGES]
    # Neither one class everywhere nor one instance.
    assert min(one.num_instances for one in results) > 5
    return results


def assert_same(results, expected):
    for result, one in zip(results, expected, strict=True):
        for name in ("labels", "classes", "scores", "semantic"):
            np.testing.assert_array_equal(getattr(result, name), getattr(one, name))


@pytest.mark.parametrize("order", [range(7, -1, -1), (3, 0, 6, 1, 7, 2, 5, 4), (4, 3, 2, 7, 6, 0, 1, 5)])
def test_labels_do_not_depend_on_the_order_of_the_images(params, expected, order):
    predictor = make(params)
    assert_same([predictor(IMAGES[index]) for index in order], [expected[index] for index in order])


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("count", [1, 2])
def test_labels_do_not_depend_on_devices_and_processes(monkeypatch, params, expected, devices, count):
    monkeypatch.setattr(processes, "_prediction_devices", lambda: jax.local_devices()[:devices])
    predictor = make(params)

    def segment_all():
        return processes.spread(lambda index: predictor(IMAGES[index]), len(IMAGES), "images", bar=False)

    for results in run_processes(monkeypatch, count, segment_all)[0]:
        assert_same(results, expected)


@pytest.mark.parametrize("batch", [3, 8])
def test_labels_do_not_depend_on_the_batch(params, batch):
    images = np.stack([IMAGES[3][8 * index : 8 * index + 96, :96] for index in range(9)])
    task = make(params).task
    predict = jax.jit(task.predict)

    def segment_all(size):
        maps = [predict(params, images[start : start + size])["classes"] for start in range(0, 9, size)]
        return [task.segment({"classes": one}) for one in np.concatenate(maps)]

    assert_same(segment_all(batch), segment_all(1))
