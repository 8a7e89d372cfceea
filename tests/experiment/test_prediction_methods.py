"""Runs whose maps are averaged, and runs that cannot be."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.configs import semantic
from segjax.errors import InputError
from segjax.experiment import prediction_methods
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.prediction_methods import select_method
from segjax.inference.predictor import create_predictor
from segjax.inference.settings import PredictConfig
from segjax.segmentation import Segmentation
from tests.experiment.tiny import shrink


@pytest.fixture
def runs(monkeypatch):
    """Runs "a", "b", ...: each predicts the image times its number as the probability of a cell."""
    members, configs = {}, {}

    def make(name, number, names=("background", "cell"), channels=1, diameter=None, **fields):
        def predict(params, images):
            cell = images[..., 0] * params
            return {"classes": jnp.stack([1 - cell, cell], -1)}

        def segment(maps):
            return Segmentation.from_labels((maps["classes"][..., 1] > 0.5).astype(int))

        method = create_predictor(
            SimpleNamespace(predict=predict, segment=segment, stride=1),
            jnp.float32(number),
            prepare=lambda image: image.astype(np.float32),
            config=PredictConfig(tile=128, trained_diameter=diameter),
        )
        config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
        config.update_from_flattened_dict(fields)
        configs[name], members[name] = config, OpenedMethod(method, names, channels, digest=name)

    monkeypatch.setattr(prediction_methods, "open_run", lambda path: members[path.name])
    monkeypatch.setattr(prediction_methods, "read_run", lambda path: (configs[path.name], None))
    make("a", 0.2)
    make("b", 0.6)
    make("c", 1.0)
    make("classes", 1.0, names=("background", "nucleus"))
    make("channels", 1.0, channels=3)
    make("diameter", 1.0, diameter=20.0)
    make("scale", 1.0, **{"data.scale": 0.25})
    make("stain", 1.0, **{"data.stain": "macenko"})
    make("instances", 1.0, **{"task.instances": "boundary"})
    members["detector"] = OpenedMethod(lambda image: None)
    configs["detector"] = configs["a"]


def paths(text):
    return [Path(name) for name in text.split(",")]


def test_maps_of_runs_are_averaged(runs):
    image = np.random.default_rng(0).random((20, 30, 1))
    opened = select_method(paths("a,b,c"))
    maps = opened.method.predict_maps(image)
    np.testing.assert_allclose(maps["classes"][..., 1], 0.6 * image[..., 0], rtol=1e-5)
    np.testing.assert_array_equal(opened.method(image).labels > 0, 0.6 * image[..., 0] > 0.5)
    digests = {select_method(paths(text)).digest for text in ("a", "a,b", "b,a", "a,b,c")}
    assert len(digests) == 4


def test_flips_are_those_of_every_member(runs):
    opened = select_method(paths("a,b"), flips=True)
    assert opened.method.config.flips
    assert all(other.config.flips for other in opened.method.others)
    assert opened.digest != select_method(paths("a,b")).digest


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("classes", r"classes is \('background', 'cell'\) and \('background', 'nucleus'\)"),
        ("channels", "channels is 1 and 3"),
        ("diameter", r"config\.data\.diameter is None and 20\.0"),
        ("scale", r"config\.data\.scale is 0\.5 and 0\.25"),
        ("stain", r"config\.data\.stain is None and 'macenko'"),
        ("instances", r"config\.task\.instances is .* and 'boundary'"),
        ("detector", "detector detects objects: give it alone"),
        ("a", "names a run twice"),
    ],
)
def test_runs_that_do_not_fit_are_refused(runs, second, message):
    with pytest.raises(InputError, match=f"--workdir.*{message}"):
        select_method(paths(f"a,{second}"))


def test_flips_of_a_detector_or_a_classical_method_are_refused(runs):
    for arguments in ({"workdirs": paths("detector")}, {"model": "watershed"}):
        with pytest.raises(InputError, match="--flips averages maps, which only segmenters predict"):
            select_method(**arguments, flips=True)
