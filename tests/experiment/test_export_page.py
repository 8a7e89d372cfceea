"""A page with a network: what it contains and what it refuses.

Its scripts are tested in tests/inference/page.
"""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from segjax.errors import InputError
from segjax.experiment import export_page as module
from segjax.experiment.export_page import INSTANCES, SCRIPTS, export_page
from segjax.experiment.methods import make_predictor
from segjax.inference.tiling import STEP
from tests.experiment.test_export_program import network


class Tensor(SimpleNamespace):
    """What `export_page` uses of an initialiser of ONNX."""

    EXTERNAL = 1

    def ClearField(self, name):
        setattr(self, name, b"")


class External(list):
    def add(self):
        self.append(SimpleNamespace())
        return self[-1]


def stored(tensor):
    return {entry.key: entry.value for entry in tensor.external_data}


def model(side):
    """A graph with a large and a small constant that all sides have, and a large one of its own."""
    contents = [b"a" * 2000, b"b" * 10, bytes([side % 256]) * 1500]
    tensors = [Tensor(raw_data=content, external_data=External()) for content in contents]
    text = lambda: json.dumps([len(t.raw_data) or stored(t) for t in tensors]).encode()  # noqa: E731
    return SimpleNamespace(graph=SimpleNamespace(initializer=tensors), SerializeToString=text)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """What a page contains of the npm package."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.2.3"}')
    (folder / "dist/ort.wasm.bundle.min.mjs").write_text("export const run = '</script>';")
    (folder / "dist/ort-wasm-simd-threaded.wasm").write_bytes(bytes(range(256)) * 20)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory, runtime):
    """A network and the text of its page; jax2onnx, which needs an environment of its own, is replaced."""
    made = network("encoder=vgg11,instances=distance", **{"predict.flips": True, "data.diameter": 20.0})
    path = tmp_path_factory.mktemp("page") / "<cells>.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_onnx", lambda network, task, side: (model(side), 1e-6 * side))
        difference = export_page(made, path, runtime=runtime)
    text = path.read_text()
    assert difference == pytest.approx(1e-6 * max(json.loads(element(text, "about"))["sides"]))
    return made, text


def element(text, name):
    return re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def unpacked(text, name):
    return gzip.decompress(base64.b64decode(element(text, name)))


def test_the_page_allows_only_its_own_script_and_style(page):
    _, text = page
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe-inline" not in policy
    assert "http" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for name, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules[name]
    assert not re.search(r"""(src|href)=["']""", text)
    assert "<title>&lt;cells&gt;</title>" in text


def test_the_page_contains_the_scripts_and_the_files(page, runtime):
    _, text = page
    folder = Path(module.__file__).parents[1] / "inference/page"
    for part, names in SCRIPTS.items():
        inside = (
            re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
            if part == "page"
            else element(text, f"{part}-code")
        )
        for name in names:
            assert (folder / name).read_text() in inside
    assert {name for names in SCRIPTS.values() for name in names} == {
        path.name for path in folder.glob("*.js")
    }
    assert unpacked(text, "runtime") == (runtime / "dist/ort.wasm.bundle.min.mjs").read_bytes()
    assert unpacked(text, "binary") == (runtime / "dist/ort-wasm-simd-threaded.wasm").read_bytes()


def test_the_graphs_have_their_weights_in_common(page):
    _, text = page
    weights = unpacked(text, "weights")
    sides = json.loads(element(text, "about"))["sides"]
    assert len(weights) == 2000 + 1500 * len({side % 256 for side in sides})
    for side in sides:
        first, second, third = json.loads(unpacked(text, f"graph-{side}"))
        assert first == {"location": "weights", "offset": "0", "length": "2000"}
        assert second == 10
        start = int(third["offset"])
        assert weights[start : start + int(third["length"])] == bytes([side % 256]) * 1500


def test_the_page_knows_what_prediction_knows(page):
    made, text = page
    known = json.loads(element(text, "about"))
    predictor = make_predictor(made.config, made.task, made.params)
    assert (known["instances"], known["outputs"], known["vectors"]) == (
        "distance",
        ["classes", "distance"],
        False,
    )
    assert (known["flips"], known["diameter"], known["channels"]) == (True, 20.0, 2)
    assert known["percentiles"] == [1.0, 99.8]
    assert known["decoder"]["h"] == made.task.config.decoder.h
    assert [slider["name"] for slider in known["sliders"]] == [
        "foreground_threshold",
        "decoder.h",
        "decoder.smoothing",
        "min_area",
    ]
    for length in (3, 128, 129, 700):
        windows = predictor.single if length <= predictor.single.largest else predictor.several(2)
        settings = known["windows"]["single" if windows is predictor.single else "several"]
        assert (settings["largest"], settings["margin"]) == (windows.largest, windows.margin)
        assert settings["step"] % STEP == 0
        assert windows.side((length, length)) in known["sides"]


def test_what_has_no_page_is_refused(tmp_path, runtime):
    path = tmp_path / "a.html"
    with pytest.raises(InputError, match=r"--runtime=.*nowhere is not the npm package onnxruntime-web"):
        export_page(network(), path, runtime=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.task\.instances=colours has no decoder in a page"):
        export_page(network("encoder=vgg11,instances=colours"), path, runtime=runtime)
    with pytest.raises(InputError, match=r"config\.data\.stain=macenko cannot be part"):
        export_page(network(**{"data.stain": "macenko"}), path, runtime=runtime)
    assert not path.exists()


def test_the_decoder_knows_the_instances_that_are_accepted():
    code = (Path(module.__file__).parents[1] / "inference/page/decoder.js").read_text()
    table = re.search(r"const DECODERS = \{(.*?)\n\};", code, re.DOTALL)[1]
    assert tuple(re.findall(r"^  (\w+):", table, re.MULTILINE)) == INSTANCES
