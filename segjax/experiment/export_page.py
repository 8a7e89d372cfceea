"""Exports the network of a segmenter as one HTML file, which segments images in a browser."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import importlib.resources
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from segjax.errors import InputError
from segjax.experiment.decoder_fit import decoder_settings
from segjax.experiment.export_onnx import make_onnx
from segjax.experiment.export_program import check_segmenter, describe_network
from segjax.experiment.methods import make_predictor
from segjax.experiment.pretrained import Pretrained
from segjax.experiment.setup import preprocessing_settings
from segjax.experiment.sliders import NETWORK_SLIDERS, make_sliders
from segjax.files import read_json_object, write_text
from segjax.inference.dense import DensePredictor
from segjax.inference.tiling import STEP, Windows
from segjax.report.overlays import colour_of
from segjax.report.page import css
from segjax.tasks.semantic import SemanticTask, output_channels

# The representations of instances that decoder.js decodes.
INSTANCES = ("components", "boundary", "distance", "poisson", "flows")
# Files of onnxruntime-web: its module, and its WebAssembly.
RUNTIME = {"runtime": "dist/ort.wasm.bundle.min.mjs", "binary": "dist/ort-wasm-simd-threaded.wasm"}
# The scripts of each part of the page, in the folder segjax/inference/page.
SCRIPTS = {
    "engine": ("grid.js", "decoder.js", "prepare.js", "images.js", "engine.js"),
    "network": ("network.js",),
    "page": ("downloads.js", "page.js"),
}
# Smaller tensors stay in the graphs: onnxruntime computes shapes from them.
SMALLEST_WEIGHT = 1024


def export_page(network: Pretrained, path: Path, *, runtime: Path) -> float:
    """Writes a page that segments images, with the network, onnxruntime-web and all scripts inside.

    The page opens from the disk, in any browser with WebAssembly. It prepares images, cuts windows and
    decodes maps as `segjax predict` does, with the fitted settings of the decoder. Its
    Content-Security-Policy forbids all requests.

    Args:
      network: a segmenter.
      path: the file.
      runtime: folder of the unpacked npm package onnxruntime-web.

    Returns:
      The largest difference between an output of onnxruntime and of the network, see `export_onnx`.

    Raises:
      InputError: if the page cannot decode the instances, `runtime` is no such package, or the network cannot
        be converted to ONNX.
    """
    task = check_segmenter(network)
    if task.config.instances not in INSTANCES:
        raise InputError(
            f"config.task.instances={task.config.instances} has no decoder in a page: give"
            f" --out=NAME.stablehlo, or a network with one of {', '.join(INSTANCES)}"
        )
    runtime_files, version = _read_runtime(runtime)
    about = _describe(network, task)
    graphs, weights, difference = _make_graphs(network, task, about["sides"])
    files = {
        **runtime_files,
        "weights": weights,
        **{f"graph-{side}": graph for side, graph in graphs.items()},
    }
    write_text(path, _render(path.stem, about | {"runtime": version}, files))
    return difference


def _read_runtime(folder: Path) -> tuple[dict[str, bytes], str]:
    """Returns the files of onnxruntime-web by their name in the page, and its version."""
    try:
        version = str(read_json_object(folder / "package.json")["version"])
        return {name: (folder / file).read_bytes() for name, file in RUNTIME.items()}, version
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--runtime={folder} is not the npm package onnxruntime-web: run npm pack onnxruntime-web, unpack"
            " the file, and give the folder package"
        ) from error


def _describe(network: Pretrained, task: SemanticTask) -> dict[str, Any]:
    """Returns what the scripts must know, for JSON."""
    predictor = make_predictor(network.config, task, network.params)
    assert isinstance(predictor, DensePredictor)
    channels, stride = network.metadata.channels, task.stride
    single, several = predictor.single, predictor.several(channels)
    sides = {single.side((side, side)) for side in range(stride, single.largest + 1, stride)}
    sides |= {several.side((side, side)) for side in range(single.largest + 1, several.largest + 1)}
    return {
        **describe_network(network, task),
        "channels": channels,
        "percentiles": preprocessing_settings(network.config)["percentiles"],
        "vectors": task.config.representation.vectors,
        "outputs": sorted(output_channels(task.config, task.num_classes)),
        "windows": {"single": _windows(single), "several": _windows(several)},
        "sides": sorted(sides | {several.largest}),
        "colours": [css(colour_of(index)) for index in range(1, task.num_classes)],
        "sliders": [slider._asdict() for slider in make_sliders(NETWORK_SLIDERS, decoder_settings(task))],
    }


def _windows(windows: Windows) -> dict[str, int]:
    fields = dataclasses.asdict(windows)
    return fields | {"largest": windows.largest, "step": math.lcm(STEP, windows.stride)}


def _make_graphs(
    network: Pretrained, task: SemanticTask, sides: Iterable[int]
) -> tuple[dict[int, bytes], bytes, float]:
    """Converts the network for windows of several sizes, which have their weights in common.

    Returns:
      The graph for each side, the weights, and the largest difference of an output.
    """
    positions: dict[bytes, int] = {}
    weights, graphs, largest = bytearray(), {}, 0.0
    for side in sides:
        model, difference = make_onnx(network, task, side)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) >= SMALLEST_WEIGHT:
                content = tensor.raw_data
                if content not in positions:
                    positions[content] = len(weights)
                    weights += content
                _refer(tensor, positions[content], len(content))
        graphs[side], largest = model.SerializeToString(), max(largest, difference)
    return graphs, bytes(weights), largest


def _refer(tensor: Any, offset: int, length: int) -> None:
    """Replaces the content of a tensor by its position in the file "weights"."""
    tensor.ClearField("raw_data")
    tensor.data_location = type(tensor).EXTERNAL
    for key, value in (("location", "weights"), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _render(title: str, about: dict[str, Any], files: dict[str, bytes]) -> str:
    folder = importlib.resources.files("segjax.inference") / "page"
    code = {
        part: "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
        for part, names in SCRIPTS.items()
    }
    style = (folder / "page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(code['page'])} 'wasm-unsafe-eval' blob:; worker-src blob:;"
        f" style-src {_source(style)}; base-uri 'none'; form-action 'none'"
    )
    template = jinja2.Template(
        (folder / "page.html").read_text(encoding="utf-8"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return template.render(
        title=title,
        policy=policy,
        style=style,
        # JSON inside of a script must not end it.
        about=json.dumps(about).replace("<", "\\u003c"),
        files={
            name: base64.b64encode(gzip.compress(content, mtime=0)).decode()
            for name, content in files.items()
        },
        **code,
    )


def _source(content: str) -> str:
    """Returns a source of a Content-Security-Policy that allows exactly this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
