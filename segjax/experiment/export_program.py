"""Exports the network of a segmenter as one program, which runs without segjax."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from segjax.errors import InputError
from segjax.experiment.decoder_fit import fitted_task
from segjax.experiment.pretrained import Pretrained, open_pretrained
from segjax.experiment.sections import read_predict
from segjax.experiment.setup import preprocessing_settings, read_run, restore_params
from segjax.files import atomic_write, write_json
from segjax.models.weights.network import find, names
from segjax.ops.convolution import split_over_devices
from segjax.tasks.semantic import SemanticTask
from segjax.typing import Array, Outputs

PLATFORMS = ("cpu", "cuda", "tpu")


def open_network(workdir: str | None, model: str | None) -> Pretrained:
    """Opens the network of a run, with its fitted decoder, or an exported network.

    Args:
      workdir: the folder of the run; None for `model`.
      model: file of `segjax export`, or the name of a network in the package.

    Raises:
      InputError: if there is no such network, or its file is damaged.
    """
    if workdir is None:
        path = find(str(model))
        if path is None:
            raise InputError(
                f"--model={model} was not written by segjax export: give such a file, or one of"
                f" {', '.join(names())}"
            )
        return open_pretrained(path)
    folder = Path(workdir)
    config, metadata = read_run(folder)
    task, params, step = restore_params(folder, config, metadata)
    return Pretrained(config, metadata, fitted_task(task, folder, step, params), params, step)


def check_segmenter(network: Pretrained) -> SemanticTask:
    """Returns the task of a network that maps images to maps.

    Raises:
      InputError: if the network is no segmenter or normalises stains.
    """
    if not isinstance(network.task, SemanticTask):
        raise InputError(
            "a program maps images to maps, but this network detects objects: give --out=NAME.safetensors"
        )
    stain = network.config.data.stain
    if stain is not None:
        raise InputError(
            f"config.data.stain={stain} cannot be part of a program: give --out=NAME.safetensors, or a"
            " network that was trained without it"
        )
    return network.task


def export_program(network: Pretrained, path: Path) -> Path:
    """Writes the program of a network, and a description of its inputs and outputs as JSON.

    The program maps images [B, H, W, C] float32 as they were read, such as 0 to 255, to class probabilities
    "classes" [B, H, W, K] and the map of the instances by its name. B is any number; H and W are any
    multiples of the network's stride. It normalises each image by its percentiles. It does not resize images:
    the description states the diameter of the cells and the scale that the network knows. If its `flips` is
    true, prediction averages the maps over the image and its three mirror images, which a program does not.

        exported = jax.export.deserialize(Path("nuclei.stablehlo").read_bytes())
        maps = exported.call(images)

    Args:
      network: a segmenter.
      path: the file of the program, for `jax.export.deserialize`; the description has the suffix .json.

    Returns:
      The path of the description.

    Raises:
      InputError: if the network is no segmenter or normalises stains, or the package flatbuffers is missing.
    """
    task = check_segmenter(network)
    low, high = preprocessing_settings(network.config)["percentiles"]
    stride, channels = task.stride, network.metadata.channels

    def program(images: Array) -> Outputs:
        return dict(task.predict(network.params, normalise(images, low=low, high=high)))

    shape = export.symbolic_shape(f"b, {stride}*h, {stride}*w, {channels}")
    # The other algorithms for convolutions need the number of pixels, which is a symbol here.
    with split_over_devices():
        exported = export.export(jax.jit(program), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
    try:
        content = bytes(exported.serialize())
    except ImportError as error:
        raise InputError('a program needs the package flatbuffers: pip install "segjax[export]"') from error
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(content)
    about = path.with_suffix(".json")
    write_json(about, _describe(network, task, exported, hashlib.sha256(content).hexdigest()))
    return about


def normalise(images: Array, *, low: float, high: float) -> Array:
    """Normalises each image and channel as `percentile_normalise` does, also with symbolic height and width.

    Args:
      images: [B, H, W, C] float32.
      low: percentile mapped to 0.
      high: percentile mapped to 1.

    Returns:
      [B, H, W, C] float32.
    """
    batch, height, width, channels = images.shape
    pixels = jnp.sort(images.reshape(batch, height * width, channels), axis=1)
    # The last index. Height and width are symbols here, and become a number only when the program runs.
    last = jnp.asarray(height * width, jnp.int32) - 1

    def percentile(value: float) -> Array:
        position = value / 100 * last.astype(jnp.float32)
        index = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, last)
        below = jnp.take(pixels, index, axis=1)
        above = jnp.take(pixels, jnp.minimum(index + 1, last), axis=1)
        return below + (above - below) * (position - index)

    bottom, top = percentile(low), percentile(high)
    flat = top <= bottom
    bottom = jnp.where(flat, pixels[:, 0], bottom)
    top = jnp.where(flat, jnp.take(pixels, last, axis=1), top)
    spread = jnp.where(top > bottom, top - bottom, 1)
    return (images - bottom[:, None, None]) / spread[:, None, None]


def describe_network(network: Pretrained, task: SemanticTask) -> dict[str, Any]:
    """Returns what a program outside of segjax must know to prepare images and to decode maps, for JSON."""
    data, settings = network.config.data, task.config
    return {
        "class_names": network.metadata.class_names,
        "step": network.step,
        "scale": data.scale,
        "diameter": data.get("diameter"),
        "flips": read_predict(network.config).flips,
        "instances": settings.instances,
        "decoder": vars(settings.decoder),
        "foreground_threshold": settings.foreground_threshold,
        "min_area": settings.min_area,
        "min_fraction": settings.min_fraction,
    }


def _describe(
    network: Pretrained, task: SemanticTask, exported: export.Exported, digest: str
) -> Mapping[str, Any]:
    return {
        "format": f"jax.export, calling convention {exported.calling_convention_version}",
        "platforms": exported.platforms,
        "sha256": digest,
        "input": {"shape": str(exported.in_avals[0].shape), "dtype": "float32"},
        "outputs": sorted(jax.tree.unflatten(exported.out_tree, exported.out_avals)),
        **describe_network(network, task),
    }
