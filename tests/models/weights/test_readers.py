import builtins

import h5py
import ml_dtypes
import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from segjax.errors import InputError
from segjax.models.weights.readers import read_checkpoint

TENSORS = {
    "block/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "block/bias": np.array([0.5, -1], np.float32),
}


def write_h5(path, tensors):
    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            file[name] = value


def onnx_model(tensors):
    initialisers = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], initialisers))


WRITERS = {
    "w.safetensors": lambda path, tensors: save_file(tensors, path),
    "w.h5": write_h5,
    "w.onnx": lambda path, tensors: onnx.save(onnx_model(tensors), path),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_reads_what_the_library_wrote(name, tmp_path):
    WRITERS[name](tmp_path / name, TENSORS)
    actual = read_checkpoint(tmp_path / name)
    assert actual.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        np.testing.assert_array_equal(actual[key], value)


@pytest.mark.parametrize("name", list(WRITERS))
def test_says_that_a_file_is_damaged(name, tmp_path):
    WRITERS[name](tmp_path / name, {"kernel": np.ones((100, 100), np.float32)})
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{name}: not a readable .* file of weights"):
        read_checkpoint(tmp_path / name)


def test_says_what_is_wrong_with_the_path(tmp_path):
    with pytest.raises(InputError, match=r"weights\.safetensors does not exist"):
        read_checkpoint(tmp_path / "weights.safetensors")
    with pytest.raises(
        InputError, match=r"weights\.pkl: not a weights file: its name must end in \.safetensors"
    ):
        read_checkpoint(tmp_path / "weights.pkl")
    write_h5(tmp_path / "empty.h5", {})
    with pytest.raises(InputError, match=r"empty\.h5 contains no arrays"):
        read_checkpoint(tmp_path / "empty.h5")


@pytest.mark.parametrize(
    ("suffix", "library", "way_out"),
    [("pth", "torch", "pip install torch"), ("h5", "h5py", "convert"), ("onnx", "onnx", "convert")],
)
def test_says_which_library_is_missing(suffix, library, way_out, tmp_path, monkeypatch):
    really_import = builtins.__import__

    def without(name, *rest):
        if name == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return really_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / f"w.{suffix}").touch()
    with pytest.raises(InputError, match=f"install {library}: .*{way_out}"):
        read_checkpoint(tmp_path / f"w.{suffix}")


def test_follows_no_link_out_of_an_h5_file(tmp_path):
    write_h5(tmp_path / "secret.h5", TENSORS)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["kernel"] = np.ones(2, np.float32)
        file["linked"] = h5py.ExternalLink("secret.h5", "block/bias")
        layout = h5py.VirtualLayout((2,), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "block/bias", (2,))
        file.create_virtual_dataset("virtual", layout)
        (tmp_path / "raw").write_bytes(bytes(8))
        file.create_dataset("outside", (2,), np.float32, external=[(str(tmp_path / "raw"), 0, 8)])
    assert read_checkpoint(tmp_path / "w.h5").keys() == {"kernel"}


def test_reads_no_second_file_of_an_onnx_model(tmp_path):
    model = onnx_model({"kernel": np.ones((64, 64), np.float32)})
    onnx.save(model, tmp_path / "w.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    with pytest.raises(InputError, match=r"kernel is in another file; save the model as one \.onnx file"):
        read_checkpoint(tmp_path / "w.onnx")


def test_bfloat16_is_read_as_float32(tmp_path):
    save_file({"kernel": TENSORS["block/kernel"].astype(ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    actual = read_checkpoint(tmp_path / "w.safetensors")["kernel"]
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, TENSORS["block/kernel"])


@pytest.mark.peers
def test_reads_no_pickle_that_runs_code(tmp_path):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")

    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"weight": torch.ones(2), "harm": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: not a readable \.pth file of weights"):
        read_checkpoint(tmp_path / "w.pth")
    assert not (tmp_path / "written").exists()


@pytest.mark.peers
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 1}, lambda s: {"model": s}]
)
def test_finds_the_state_dict_in_a_pth_file(wrap, tmp_path):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    state = {"a.weight": torch.ones(2, dtype=torch.bfloat16), "a.count": torch.tensor(3)}
    torch.save(wrap(state), tmp_path / "w.pth")
    actual = read_checkpoint(tmp_path / "w.pth")
    assert actual["a.weight"].dtype == np.float32
    assert actual["a.count"] == 3
    state["a.weight"] = torch.nn.Parameter(state["a.weight"])
    torch.save(wrap(state), tmp_path / "w.pth")
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "w.pth")["a.weight"], [1, 1])
