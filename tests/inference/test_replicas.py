import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.inference.predictor import create_predictor
from segjax.tasks.semantic import SemanticConfig, SemanticTask
from segjax.train import processes

IMAGES = np.random.default_rng(0).uniform(0, 1, (7, 24, 24, 1)).astype(np.float32)


class Network:
    stride = 1

    def apply(self, variables, images):
        foreground = images * variables["params"]["factor"] - 0.5
        return {"classes": jnp.concatenate([-foreground, foreground], -1)}


def predict_all(factors, devices_of_images):
    task = SemanticTask(Network(), 2, SemanticConfig(instances="components"))
    predictor = create_predictor(task, {"factor": jnp.ones((1, 1, 1, 1))}, prepare=lambda image: image)
    compiled = predictor._predict

    def predict(params, images):
        outputs = compiled(params, images)
        devices_of_images.append(outputs["classes"].devices())
        return outputs

    predictor._predict = predict
    results = []
    for factor in factors:
        params = {"factor": np.full((1, 1, 1, 1), factor, np.float32)}
        predictor.params = jax.device_put(params, jax.local_devices()[0])
        maps = processes.spread(lambda index: predictor.predict_maps(IMAGES[index])["classes"], 7, "maps")
        results.append(np.stack(maps))
    return results


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_devices_of_a_process_predict_an_image_each_with_the_result_of_one(monkeypatch, count):
    expected = predict_all((1.0, 2.0), [])
    used = []
    monkeypatch.setattr(processes, "_prediction_devices", lambda: jax.local_devices()[:count])
    results = predict_all((1.0, 2.0), used)
    np.testing.assert_array_equal(results, expected)
    assert not np.array_equal(*expected)
    times = [used.count({device}) for device in jax.local_devices()]
    assert times == [2 * len(range(device, 7, count)) if device < count else 0 for device in range(8)]


def test_an_image_that_fails_on_one_device_ends_all(monkeypatch):
    monkeypatch.setattr(processes, "_prediction_devices", lambda: jax.local_devices()[:3])
    with pytest.raises(ZeroDivisionError):
        processes.spread(lambda index: 1 / (index - 4), 7, "maps")
