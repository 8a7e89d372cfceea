"""A network as ONNX, compared with the network itself."""

import json
import sys

import numpy as np
import pytest

from segjax.data.preprocess import percentile_normalise
from segjax.errors import InputError
from segjax.experiment import export_onnx as module
from segjax.experiment.export_onnx import export_onnx
from tests.experiment.test_export_program import expected_maps, network


@pytest.mark.onnx
def test_onnxruntime_predicts_what_the_network_predicts(tmp_path):
    import onnxruntime

    made, path = network(), tmp_path / "network.onnx"
    difference = export_onnx(made, path)
    assert 0 < difference < 1e-4
    session = onnxruntime.InferenceSession(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["segjax"])
    assert (about["window"], about["channels"], about["step"]) == (128, 2, 7)
    assert about["class_names"] == ["background", "nucleus"]
    assert about["decoder"]["steps"] == made.task.config.decoder.steps
    assert "percentiles (1.0, 99.8)" in about["normalisation"]
    (images,) = session.get_inputs()
    assert (images.name, images.shape[1:]) == ("images", [128, 128, 2])
    # Any number of windows.
    raw = np.random.default_rng(0).integers(0, 2**12, (3, 128, 128, 2)).astype(np.float32)
    maps = session.run(["classes", "flows"], {"images": np.stack([percentile_normalise(one) for one in raw])})
    expected = expected_maps(made, raw)
    for name, values in zip(("classes", "flows"), maps, strict=True):
        assert np.ptp(expected[name]) > 0.01
        np.testing.assert_allclose(values, expected[name], atol=1e-4)


ARCHITECTURES = [
    *({"encoder": encoder} for encoder in ("vgg11", "vgg16", "resnet18")),
    *({"encoder": "vgg11", "norm": norm} for norm in ("group", "layer", "frozen_batch", "none")),
    *({"encoder": "resnet18", "norm": norm} for norm in ("group", "layer", "frozen_batch", "none")),
    # Without a norm of activations, those of random parameters grow with each block, and so does rounding.
    *({"encoder": encoder, "norm": "layer"} for encoder in ("resnet50", "resnet50_v1")),
    {"decoder": "upsample", "interpolation": "bilinear"},
    {"decoder": "upsample", "interpolation": "nearest", "merge": "add"},
    {"encoder": "resnet18", "decoder": "upsample", "output_stride": 4},
    {"skips": False, "convolutions": 0, "remat": True},
    *({"instances": name} for name in ("components", "boundary", "flows", "poisson", "colours")),
]


@pytest.mark.onnx
@pytest.mark.parametrize("settings", ARCHITECTURES, ids=str)
def test_every_architecture_has_onnx(tmp_path, settings):
    settings = {"norm": "weight"} | settings
    fields = {f"model.{name}": value for name, value in settings.items()}
    fields["task.instances"] = fields.pop("model.instances", "distance")
    made = network(**{"model.encoder": "vgg11", "model.decoder_norm": settings["norm"], **fields})
    assert export_onnx(made, tmp_path / "network.onnx", window=2 * made.task.stride) < 1e-4


@pytest.mark.onnx
def test_other_maps_than_those_of_the_network_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    with pytest.raises(InputError, match=r"onnxruntime computes maps that differ by .*: give --out"):
        export_onnx(network(), tmp_path / "network.onnx", window=16)
    assert [*tmp_path.iterdir()] == []


def test_what_has_no_onnx_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "network.onnx"
    with pytest.raises(InputError, match=r"--window=100 does not fit the network: give a multiple of .* 16"):
        export_onnx(network(), path, window=100)
    with pytest.raises(InputError, match=r"config\.model\.dtype=bfloat16 has no ONNX"):
        export_onnx(network(**{"model.dtype": "bfloat16"}), path)
    with pytest.raises(InputError, match=r"config\.data\.stain=macenko cannot be part"):
        export_onnx(network(**{"data.stain": "macenko"}), path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'an environment of its own, run pip install "segjax\[onnx\]"'):
        export_onnx(network(), path)
    assert [*tmp_path.iterdir()] == []
