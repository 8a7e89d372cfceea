import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segjax.errors import InputError
from segjax.models.weights import network
from segjax.models.weights.network import find, load_network, names, save_network

PARAMS = {"encoder": {"kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}, "bias": np.ones(2)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cells.safetensors"
    save_network(path, PARAMS, {"step": 5})
    return path


def rewrite(path, tensors=None, **changes):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        header = json.loads(opened.metadata()["segjax"]) | changes
    save_file(tensors or load_file(path), path, metadata={"segjax": json.dumps(header)})


def test_parameters_and_header_are_read_back(file):
    params, header = load_network(file)
    assert header["step"] == 5
    assert params["encoder"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(params["encoder"]["kernel"], PARAMS["encoder"]["kernel"].astype(np.float16))
    np.testing.assert_array_equal(params["bias"], [1, 1])


def test_the_umask_decides_who_may_read_a_file(file, tmp_path):
    # The writer of safetensors itself lets nobody but the owner read.
    (tmp_path / "other").write_text("")
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_digest_depends_on_the_parameters_only(file, tmp_path):
    same = save_network(tmp_path / "b.safetensors", PARAMS, {"step": 6})
    other = save_network(tmp_path / "c.safetensors", {**PARAMS, "bias": np.zeros(2)}, {"step": 5})
    assert load_network(file)[1]["digest"] == same != other


def test_damaged_and_foreign_files_are_refused(file, tmp_path):
    tensors = load_file(file)
    tensors["bias"] = tensors["bias"] + np.float16(1)
    rewrite(file, tensors)
    with pytest.raises(InputError, match="is damaged: the digest"):
        load_network(file)
    rewrite(file, format=2)
    with pytest.raises(InputError, match="version 2 of the format, but this segjax reads version 1"):
        load_network(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_network(file)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": np.zeros(1)}, foreign)
    with pytest.raises(InputError, match="holds no network"):
        load_network(foreign)


def test_values_beyond_float16_are_refused(tmp_path):
    with pytest.raises(InputError, match="x has values that do not fit in float16"):
        save_network(tmp_path / "large.safetensors", {"x": np.array([1e6])}, {})
    assert list(tmp_path.iterdir()) == []


def test_networks_are_called_by_name_or_by_file(file, tmp_path, monkeypatch):
    assert find(file) == file
    assert find(tmp_path) is None
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": np.zeros(1)}, foreign)
    assert find(foreign) is None
    monkeypatch.setattr(network, "FOLDER", tmp_path)
    assert names() == ["cells", "foreign"]
    assert find("cells") == file
