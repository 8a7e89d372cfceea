"""Exports the network of a segmenter as ONNX, which runs by onnxruntime without segjax and JAX."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segjax.errors import InputError, first_line
from segjax.experiment.export_program import check_segmenter, describe_network
from segjax.experiment.pretrained import Pretrained
from segjax.experiment.setup import preprocessing_settings
from segjax.files import atomic_write
from segjax.models.interception import folded_norms, standardised_params
from segjax.ops.convolution import split_over_devices
from segjax.tasks.semantic import SemanticTask, output_channels
from segjax.typing import Array, Params

# Name of the input, and of the metadata that describe the network.
INPUT, METADATA = "images", "segjax"
# Newer ones have nothing that the networks use.
OPSET = 21
# The largest difference of an output that is rounding.
TOLERANCE = 1e-3
MISSING = (
    "ONNX needs the packages jax2onnx and onnxruntime: in an environment of its own, run pip install"
    ' "segjax[onnx]"'
)


def export_onnx(network: Pretrained, path: Path, *, window: int | None = None) -> float:
    """Writes a network as ONNX, after onnxruntime has run it and its maps were compared.

    The input "images" [B, S, S, C] float32 are windows of normalised images: of each channel of an image, two
    percentiles are mapped to 0 and 1, see `percentile_normalise`. Normalisation is no part of the file,
    because it is that of the full image, not of its windows. The outputs are class probabilities "classes"
    [B, S, S, K] and the map of the instances by its name. B is any number, S is fixed. The metadata "segjax"
    of the file are JSON: classes, normalisation, scale and settings of the decoder.

        session = onnxruntime.InferenceSession("nuclei.onnx")
        maps = session.run(None, {"images": windows})
        about = json.loads(session.get_modelmeta().custom_metadata_map["segjax"])

    Args:
      network: a segmenter.
      path: the file.
      window: side of the windows S, pixels, a multiple of the network's stride; `config.predict.tile` if
        None.

    Returns:
      The largest difference of an output, as a fraction of its largest value if that is above 1.

    Raises:
      InputError: if the network cannot be exported, the window does not fit it, or a package is missing.
    """
    task = check_segmenter(network)
    tile = max(network.config.predict.tile // task.stride, 1) * task.stride
    side = tile if window is None else window
    if side < 1 or side % task.stride:
        raise InputError(
            f"--window={side} does not fit the network: give a multiple of its stride, {task.stride}"
        )
    model, difference = make_onnx(network, task, side)
    about = {
        **describe_network(network, task),
        "window": side,
        "channels": network.metadata.channels,
        "normalisation": f"(x - p_low) / (p_high - p_low) of each channel of the full image, percentiles"
        f" {tuple(preprocessing_settings(network.config)['percentiles'])}",
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(about)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(model.SerializeToString())
    return difference


def make_onnx(network: Pretrained, task: SemanticTask, side: int) -> tuple[Any, float]:
    """Converts a network for windows of `side` pixels.

    Returns:
      The `onnx.ModelProto`, and the largest difference of its outputs by onnxruntime, see `export_onnx`.

    Raises:
      InputError: if the network cannot be converted, its outputs differ, or a package is missing.
    """
    if network.config.model.dtype != "float32":
        raise InputError(
            f"config.model.dtype={network.config.model.dtype} has no ONNX that onnxruntime runs on CPUs: give"
            " --out=NAME.stablehlo, or a network that was trained with float32"
        )
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise InputError(MISSING) from error
    # It warns of each shape without a type, which is harmless.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    channels = network.metadata.channels
    names = sorted(output_channels(task.config, task.num_classes))

    def predict(params: Params, images: Array) -> list[Array]:
        maps = task.predict(params, images)
        return [maps[name] for name in names]

    # XLA's convolutions become one operator each; Winograd's algorithm would become many.
    with split_over_devices():
        images = np.random.default_rng(0).random((2, side, side, channels), np.float32)
        expected = jax.jit(predict)(network.params, images)
        # jax2onnx does not call the function that standardises the kernel of a convolution.
        shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
        params = standardised_params(task.predict, network.params, shape)
        try:
            # jax2onnx adds vectors to maps.
            with folded_norms(), jax.numpy_rank_promotion("allow"):
                model = to_onnx(
                    functools.partial(predict, params),
                    [("B", side, side, channels)],
                    model_name=METADATA,
                    opset=OPSET,
                    input_names=[INPUT],
                    output_names=names,
                )
        except (NotImplementedError, TypeError, ValueError) as error:
            raise InputError(
                f"the network cannot be converted to ONNX ({first_line(error)}): give --out=NAME.stablehlo"
            ) from error
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    maps = zip(expected, session.run(names, {INPUT: images}), strict=True)
    difference = max(_difference(np.asarray(own), other) for own, other in maps)
    if not difference <= TOLERANCE:
        raise InputError(
            f"onnxruntime computes maps that differ by {difference:.2g} from those of the network, more than"
            f" {TOLERANCE}: give --out=NAME.stablehlo"
        )
    return model, difference


def _difference(own: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(own - other).max() / max(np.abs(own).max(), 1))
