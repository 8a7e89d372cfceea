"""A program of a network, compared with the network itself."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax import export

from segjax.configs import semantic
from segjax.data.preprocess import percentile_normalise
from segjax.errors import InputError
from segjax.experiment.export_program import describe_network, export_program, normalise, open_network
from segjax.experiment.methods import make_predictor
from segjax.experiment.pretrained import Pretrained
from segjax.experiment.setup import make_task, param_shapes
from segjax.experiment.workdir import ModelMetadata
from tests.experiment.tiny import shrink
from tests.models.quick import random_params

METADATA = ModelMetadata(("background", "nucleus"), 2)
# Imports JAX alone.
FRESH = """
import sys
from pathlib import Path
import jax, numpy
program = jax.export.deserialize(Path("network.stablehlo").read_bytes())
maps = program.call(numpy.load("images.npy"))
assert "segjax" not in sys.modules
numpy.savez("maps.npz", **maps)
"""


def network(variant="encoder=vgg11,instances=flows", **fields):
    config = shrink(semantic.get_config(f"{variant},dataset=synthetic"))
    config.data.scale = 1.0
    config.update_from_flattened_dict(fields)
    task = make_task(config, METADATA)
    params = random_params(param_shapes(config, task, METADATA))
    return Pretrained(config, METADATA, task, params, 7)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, and the file of its program."""
    path = tmp_path_factory.mktemp("program") / "network.stablehlo"
    made = network()
    assert export_program(made, path) == path.with_suffix(".json")
    return made, path


def expected_maps(network, images):
    """The maps of each image by the method of `segjax predict`, in one window."""
    predictor = make_predictor(network.config, network.task, network.params)
    maps = [predictor.predict_maps(image) for image in images]
    return {name: np.stack([each[name] for each in maps]) for name in maps[0]}


def test_a_fresh_process_without_segjax_predicts_the_same(exported):
    made, path = exported
    images = np.random.default_rng(0).integers(0, 2**12, (2, 128, 128, 2)).astype(np.float32)
    np.save(path.with_name("images.npy"), images)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    subprocess.run([sys.executable, "-c", FRESH], cwd=path.parent, env=environment, check=True)
    with np.load(path.with_name("maps.npz")) as maps:
        expected = expected_maps(made, images)
        assert set(maps) == set(expected) == {"classes", "flows"}
        for name, values in expected.items():
            assert np.ptp(values) > 0.01
            np.testing.assert_allclose(maps[name], values, atol=2e-5)


def test_a_program_is_for_all_platforms_and_any_number_and_size(exported):
    made, path = exported
    program = export.deserialize(path.read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    shape = (3, 2 * made.task.stride, made.task.stride, 2)
    images = np.random.default_rng(0).random(shape, np.float32)
    images[2] = 40 * images[0] + 7  # the same after normalisation
    maps = program.call(images)
    assert maps["classes"].shape == shape
    np.testing.assert_allclose(maps["flows"][2], maps["flows"][0], atol=1e-4)
    assert np.ptp(maps["flows"][1] - maps["flows"][0]) > 0.01


def test_the_description_states_what_decodes_the_maps(exported):
    made, path = exported
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["outputs"] == ["classes", "flows"]
    assert about["class_names"] == ["background", "nucleus"]
    assert about["input"]["shape"] == f"(b, {made.task.stride}*h, {made.task.stride}*w, 2)"
    assert (about["step"], about["scale"], about["instances"]) == (7, 1.0, "flows")
    assert about["decoder"]["steps"] == made.task.config.decoder.steps
    assert about["flips"] is False
    averaged = network(**{"predict.flips": True})
    assert describe_network(averaged, averaged.task)["flips"] is True


@pytest.mark.parametrize("variant", ["decoder=upsample,instances=distance", "encoder=resnet18"])
def test_other_networks_have_programs(tmp_path, variant):
    made = network(variant)
    export_program(made, tmp_path / "network.stablehlo")
    program = export.deserialize((tmp_path / "network.stablehlo").read_bytes())
    assert set(program.out_tree.unflatten(program.out_avals)) == {"classes", made.task.config.instances}


IMAGES = {
    "noise": np.random.default_rng(0).normal(900, 50, (31, 45, 3)),
    "constant": np.full((8, 9, 1), 17.0),
    "nearly all background": np.eye(64)[..., None] * np.array([[[0, 5]]]),
    "nearly all grey": np.where(np.arange(4096).reshape(64, 64, 1) == 7, -3, 5.0),
    "one pixel": np.ones((1, 1, 1)),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("percentiles", [(1.0, 99.8), (0.0, 100.0)])
def test_normalisation_is_that_of_prediction(name, percentiles):
    low, high = percentiles
    image = IMAGES[name].astype(np.float32)
    got = normalise(image[None], low=low, high=high)[0]
    np.testing.assert_allclose(got, percentile_normalise(image, low=low, high=high), atol=1e-4)


def test_what_has_no_program_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "network.stablehlo"
    with pytest.raises(InputError, match=r"config\.data\.stain=macenko cannot be part of a program"):
        export_program(network(**{"data.stain": "macenko"}), path)
    detector = network()._replace(task=SimpleNamespace())
    with pytest.raises(InputError, match="this network detects objects"):
        export_program(detector, path)
    with pytest.raises(InputError, match="--model=nothing was not written by segjax export"):
        open_network(None, "nothing")
    with pytest.raises(InputError, match="contains no run"):
        open_network(str(tmp_path), None)

    def refuse(self):
        raise ImportError("no flatbuffers")

    monkeypatch.setattr(export.Exported, "serialize", refuse)
    with pytest.raises(InputError, match=r'pip install "segjax\[export\]"'):
        export_program(network(), path)
    assert [*tmp_path.iterdir()] == []


def test_the_network_in_the_package_is_opened():
    opened = open_network(None, "nuclei")
    assert opened.metadata.class_names[1] == "nucleus"
    assert jax.tree.leaves(opened.params)
