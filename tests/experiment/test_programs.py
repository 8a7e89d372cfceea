"""The compiled programs of all configs: their platforms, and what their devices exchange."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax.experiment.setup import RUN_ONCE, make_setup
from segjax.models.detectors import METHODS
from tests.experiment.test_detection import reduce_layers, small_config
from tests.experiment.test_setup import METADATA, NETWORKS, batch_of, config_of
from tests.experiment.tiny import shrink

SCRIPTS = Path(__file__).parents[2] / "scripts"
KEY = jax.eval_shape(jax.random.key, 0)
# Bytes of the metrics and their weights, which the devices sum with the gradients.
METRICS = 4096


def small_detector(method: str) -> ConfigDict:
    config = small_config(method)
    reduce_layers(config)
    config.model.update({"crop_side": 16, "crop_context": 2} if method == "r_cnn" else {})
    config.data.max_instances = 8
    return config


def detection_batch(config, task):
    rows, size = config.batch_size, config.data.patch_size
    shapes = {"image": ((rows, size, size, 1), np.float32), "classes": ((rows, 8), np.int32)}
    shapes |= dict.fromkeys(("labels", "semantic"), ((rows, size, size), np.int32))
    if task.proposals:
        shapes |= {"proposals": ((rows, 30, 4), np.float32), "proposals_valid": ((rows, 30), bool)}
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


def assert_lowers_for_every_platform(function, *arguments):
    lowered = function.trace(*arguments).lower(lowering_platforms=("cpu", "cuda", "tpu"))
    assert "stablehlo.convolution" in lowered.as_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_training_and_prediction_of_a_segmenter_lower_for_every_platform(name):
    config = config_of(name)
    setup = make_setup(config, METADATA, jax.devices()[:1])
    batch = batch_of(config)
    assert_lowers_for_every_platform(setup.step, setup.shapes, batch, KEY)
    assert_lowers_for_every_platform(jax.jit(setup.task.predict), setup.shapes.params, batch["image"])


@pytest.mark.parametrize("method", METHODS)
def test_training_and_prediction_of_a_detector_lower_for_every_platform(method):
    config = small_detector(method)
    setup = make_setup(config, METADATA, jax.devices()[:1])
    batch = detection_batch(config, setup.task)
    assert_lowers_for_every_platform(setup.step, setup.shapes, batch, KEY)
    size = jax.ShapeDtypeStruct((2,), np.float32)
    proposals = (batch["proposals"], batch["proposals_valid"]) if setup.task.proposals else None
    assert_lowers_for_every_platform(
        jax.jit(setup.task.predict), setup.shapes.params, batch["image"], size, proposals
    )


# Detectors gather boxes and scores besides, as top_k and suppression on CPU take all images together.
@pytest.mark.parametrize(("name", "gathers"), [("quickstart", 0), ("mask_r_cnn", 24)])
def test_eight_devices_exchange_the_gradients_once(monkeypatch, name, gathers):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites.scaling import collectives

    config = small_detector(name) if name in METHODS else shrink(config_of(name))
    config.optimizer.name, config.batch_size, config.mesh.data = "sgd", 8, 8
    setup = make_setup(config, METADATA, jax.devices()[:8])
    batch = detection_batch(config, setup.task) if name in METHODS else batch_of(config)
    program = setup.step.trace(setup.shapes, batch, KEY).lower().compile(RUN_ONCE).as_text()
    exchanges = list(collectives(program))
    assert {exchange.devices for exchange in exchanges} == {8}
    sums = [exchange.size for exchange in exchanges if exchange.kind == "all-reduce"]
    gradients = sum(4 * np.prod(leaf.shape) for leaf in jax.tree.leaves(setup.shapes.params))
    assert gradients - METRICS <= max(sums) <= sum(sums) <= gradients + METRICS
    assert len(sums) <= 5
    assert len(exchanges) - len(sums) <= gathers
