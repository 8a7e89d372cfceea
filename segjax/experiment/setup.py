"""Makes the objects of a training run from the sections of a config.

Library code knows no config: its errors name a parameter, and this module prefixes the section.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from segjax.data.augmentation.policy import make_augment
from segjax.data.mixture import MixedSource
from segjax.data.records import Source
from segjax.data.stream import Stream, StreamConfig
from segjax.datasets.catalog import open_source
from segjax.errors import InputError, choose
from segjax.experiment.workdir import ModelMetadata, read_config, read_metadata
from segjax.models.detectors import DetectorConfig, create_detector
from segjax.models.layers import frozen
from segjax.models.segmenters import SegmenterConfig, create_segmenter
from segjax.models.weights.loading import load_detector, load_encoder, load_matching
from segjax.models.weights.network import find, load_network
from segjax.tasks import rcnn_svm
from segjax.tasks.base import Task
from segjax.tasks.detection import DetectionTask
from segjax.tasks.detection_config import DetectionConfig
from segjax.tasks.semantic import SemanticConfig, SemanticTask, output_channels
from segjax.train.checkpoint_files import CheckpointReader
from segjax.train.optimizer import OptimizerConfig, make_optimizer
from segjax.train.sharding import check_batch, make_mesh, state_sharding
from segjax.train.state import State, make_state
from segjax.train.step import Step, make_step
from segjax.typing import Batch, Params, PyTree

T = TypeVar("T")

# Compiler options for the initialisation, which runs once: it compiles in 3 s instead of 15 s.
RUN_ONCE = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": "True"}
SPLITS = ("train", "validation", "test")
# Fields of `config.data` and `config.model` that are not for the stream and the network.
DATA_LOADING = ("workers",)
INITIALISATION = ("weights", "frozen")


class TrainSetup(NamedTuple):
    """The parts of a training run; nothing is computed yet.

    Attributes:
      task: the network with its loss.
      optimizer: updates the trainable parameters.
      shapes: shapes and types of the training state.
      mesh: the devices.
      step: the jit-compiled training step.
    """

    task: Task
    optimizer: optax.GradientTransformation
    shapes: State
    mesh: jax.sharding.Mesh
    step: Step


@contextmanager
def config_section(path: str) -> Iterator[None]:
    """Prefixes the field that an `InputError` names with the section of the config."""
    try:
        yield
    except InputError as error:
        if error.field is None:
            raise
        raise InputError(f"{path}.{error}", kind=error.kind) from error


def read_section(kind: type[T], section: Mapping[str, Any], path: str, **values: Any) -> T:
    """Makes a dataclass from a section of a config.

    Args:
      kind: the dataclass; fields that are dataclasses are made from subsections.
      section: field -> value. Missing fields have their defaults.
      path: path of the section in the config, for error messages.
      **values: further fields.

    Raises:
      InputError: for an unknown field; the message lists the fields.
    """
    hints = typing.get_type_hints(kind)
    for name, value in section.items():
        if name not in hints:
            raise InputError(f"{path}.{name} is unknown: {path} has {', '.join(hints)}")
        if dataclasses.is_dataclass(hints[name]):
            value = read_section(typing.cast(type, hints[name]), value, f"{path}.{name}")
        values[name] = value.to_dict() if isinstance(value, ConfigDict) else value
    with config_section(path):
        return kind(**values)


def open_split(config: ConfigDict, split: str) -> Source:
    """Opens the "train", "validation" or "test" split of a config; names joined by "+" are mixed."""
    choose(SPLITS, "--split", split)
    names, classes = config.dataset.name.split("+"), config.dataset.get("classes")
    sources = [open_source(name, config.dataset[split], data_dir=config.dataset.data_dir) for name in names]
    if len(sources) == 1 and classes is None:
        return sources[0]
    with config_section("config.dataset"):
        return MixedSource(sources, classes)


def preprocessing_settings(config: ConfigDict) -> dict[str, Any]:
    """Returns the arguments of `preprocess_image`."""
    return {name: config.data[name] for name in ("scale", "percentiles", "stain")}


def make_stream(
    config: ConfigDict,
    source: Source,
    task: Task,
    propose: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Stream:
    """Makes the stream of training batches, with external proposals if `propose` is not None."""
    section = _without(config.data, DATA_LOADING)
    values: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    if "proposals" in config:
        values["max_proposals"] = config.proposals.max_proposals
    settings = read_section(StreamConfig, section, "config.data", **values)
    with config_section("config.data"):
        return Stream(
            source,
            settings,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            propose=propose,
            targets=task.targets,
        )


def make_task(config: ConfigDict, metadata: ModelMetadata, *, svm: bool = False) -> Task:
    """Makes the task of a config, with its network.

    Args:
      config: config of a run.
      metadata: classes and channels of the network.
      svm: whether SVMs replace the trained classifier, see `rcnn_svm`.

    Raises:
      InputError: for an impossible setting; the message names the field.
    """
    num_classes = len(metadata.class_names)
    name = choose(("semantic", "detection"), "config.task.name", config.task.name)
    section = _without(config.task, ("name",))
    model_section = _without(config.model, INITIALISATION)
    if name == "semantic":
        settings = read_section(SemanticConfig, section, "config.task")
        network = read_section(SegmenterConfig, model_section, "config.model")
        with config_section("config.task"):
            outputs = output_channels(settings, num_classes)
        with config_section("config.model"):
            segmenter = create_segmenter(network, outputs=outputs)
        with config_section("config.task"):
            return SemanticTask(segmenter, num_classes, settings)
    detection = read_section(DetectionConfig, section, "config.task")
    detector_config = read_section(DetectorConfig, model_section, "config.model")
    with config_section("config.model"):
        detector = create_detector(detector_config, classes=num_classes)
    with config_section("config.task"):
        return (rcnn_svm.SVMTask if svm else DetectionTask)(detector, num_classes, detection)


def make_setup(
    config: ConfigDict, metadata: ModelMetadata, devices: list[jax.Device] | None = None
) -> TrainSetup:
    """Makes the objects of a training run."""
    mesh = make_mesh(**config.mesh, devices=devices)
    check_batch(mesh, config.batch_size, config.train.num_microbatches)
    task = make_task(config, metadata)
    params = param_shapes(config, task, metadata)
    optimizer_config = read_section(OptimizerConfig, config.optimizer, "config.optimizer")
    frozen_leaves = _frozen_leaves(config, params)
    with config_section("config.optimizer"):
        optimizer = make_optimizer(optimizer_config, steps=config.steps, frozen=frozen_leaves)
    with config_section("config.augment"):
        augment = make_augment(patch_size=config.data.patch_size, **config.augment)
    shapes = jax.eval_shape(_state_maker(config, optimizer), params)
    step = make_step(
        task,
        optimizer,
        augment,
        mesh=mesh,
        state=shapes,
        ema_decay=config.train.ema_decay,
        num_microbatches=config.train.num_microbatches,
    )
    return TrainSetup(task, optimizer, shapes, mesh, step)


def make_first_state(config: ConfigDict, metadata: ModelMetadata, setup: TrainSetup) -> State:
    """Makes the state before the first step on the mesh, with pretrained weights if the config names them."""
    shardings = state_sharding(setup.mesh, setup.shapes)
    initialise = jax.jit(
        _initialiser(config, setup.task, metadata),
        out_shardings=shardings.params,
        compiler_options=RUN_ONCE,
    )
    params = initialise(jax.random.key(config.seed))
    if config.model.weights:
        params = _load_weights(config, params)
    return jax.jit(_state_maker(config, setup.optimizer), out_shardings=shardings)(params)


def restore_params(workdir: Path, config: ConfigDict, metadata: ModelMetadata) -> tuple[Task, Params, int]:
    """Restores a trained network: its task, its parameters on one device, and the step they are from.

    Raises:
      InputError: if there is no intact checkpoint.
    """
    which = choose(("best", "latest"), "config.predict.checkpoint", config.predict.checkpoint)
    task = make_task(config, metadata)
    reader = CheckpointReader(workdir / "checkpoints")
    params, step = reader.restore_params(param_shapes(config, task, metadata), latest=which == "latest")
    return task, params, step


def _frozen_leaves(config: ConfigDict, params: Params) -> PyTree:
    """Returns True for parameters that are not trained: constants, and the modules in the config."""
    modules = tuple(config.model.get("frozen", ()))
    for module in modules:
        choose(params, "config.model.frozen", module)
    return {
        module: jax.tree.map(lambda leaf, module=module: leaf or module in modules, constant)
        for module, constant in frozen(params).items()
    }


def _load_weights(config: ConfigDict, params: Params) -> Params:
    """Returns the parameters with those of a weights file or of another run, as far as they match."""
    weights = Path(config.model.weights)
    network = find(config.model.weights)
    if network is not None or weights.is_dir():
        if network is not None:
            checkpoint, _ = load_network(network)
        else:
            _, checkpoint, _ = restore_params(weights, read_config(weights), read_metadata(weights))
        loaded, missing = load_matching(params, checkpoint, weights)
        if missing:
            logging.warning("randomly initialised, as %s lacks them: %s", weights, ", ".join(missing))
        return loaded
    if config.task.name == "semantic":
        return load_encoder(params, config.model.weights, encoder=config.model.encoder)
    loaded, missing = load_detector(params, config.model.weights, backbone=config.model.backbone)
    if missing:
        logging.warning("randomly initialised, for other classes or anchors: %s", ", ".join(missing))
    return loaded


def _initialiser(config: ConfigDict, task: Task, metadata: ModelMetadata) -> Callable[[jax.Array], Params]:
    size = config.data.patch_size
    batch: Batch = {"image": np.zeros((1, size, size, metadata.channels), np.float32)}
    return lambda key: task.init(key, batch)


def param_shapes(config: ConfigDict, task: Task, metadata: ModelMetadata) -> Params:
    """Returns the shapes and types of the parameters of a task."""
    return jax.eval_shape(_initialiser(config, task, metadata), jax.random.key(0))


def _state_maker(config: ConfigDict, optimizer: optax.GradientTransformation) -> Callable[[Params], State]:
    return functools.partial(make_state, optimizer=optimizer, keep_ema=config.train.ema_decay > 0)


def _without(section: ConfigDict, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}
