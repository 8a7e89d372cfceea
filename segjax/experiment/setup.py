"""Makes the objects of a training run from the sections of a config."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from segjax.data.augmentation.policy import make_augment
from segjax.data.mixture import MixedSource
from segjax.data.records import Source
from segjax.data.stream import Stream
from segjax.data.subset import random_images
from segjax.errors import InputError, choose
from segjax.experiment.compatible_weights import check_compatible
from segjax.experiment.section_reading import config_section
from segjax.experiment.sections import (
    check_prediction_settings,
    read_mesh,
    read_optimizer,
    read_step,
    read_stream,
    read_task,
    read_top,
)
from segjax.experiment.workdir import ModelMetadata, read_config, read_metadata
from segjax.metrics.scores import check_class_names
from segjax.models.detectors import create_detector
from segjax.models.norms import frozen
from segjax.models.segmenters import create_segmenter
from segjax.models.weights.loading import load_detector, load_encoder, load_matching
from segjax.models.weights.network import find, load_network
from segjax.tasks import rcnn_svm
from segjax.tasks.base import Task
from segjax.tasks.detection import DetectionTask
from segjax.tasks.semantic import SemanticConfig, SemanticTask, output_channels
from segjax.train.optimizer import make_optimizer
from segjax.train.sharding import COMPLETE, BatchPart, check_batch, make_mesh, state_sharding
from segjax.train.state import State, make_state
from segjax.train.step import Step, make_step
from segjax.typing import Batch, Params, PyTree

# Compiler options for the initialisation, which runs once: it compiles in 3 s instead of 15 s.
RUN_ONCE = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": "True"}
SPLITS = ("train", "validation", "test")


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


def open_split(config: ConfigDict, split: str) -> Source:
    """Opens the "train", "validation" or "test" split of a config; names joined by "+" are mixed.

    Raises:
      InputError: if the data cannot be read or do not fit the config; the message names the field.
    """
    from segjax.datasets.catalog import open_source  # slow to import: TFDS

    choose(SPLITS, "--split", split)
    names, classes = config.dataset.name.split("+"), config.dataset.get("classes")
    channels = config.dataset.get("channels")
    sources = [open_source(name, config.dataset[split], data_dir=config.dataset.data_dir) for name in names]
    source: Source = sources[0]
    if len(sources) > 1 or classes is not None or channels is not None:
        with config_section("config.dataset"):
            source = MixedSource(sources, classes, channels=channels)
    check_class_names(source.class_names)
    if config.dataset.get("headline") is not None:
        choose(source.class_names[1:], "config.dataset.headline", config.dataset.headline)
    count = config.dataset.get("train_images") if split == "train" else None
    if count is None:
        return source
    if count > len(source):
        raise InputError(
            f"config.dataset.train_images={count}, but the training split of {config.dataset.name} has"
            f" {len(source)} images: give a smaller number, or None for all"
        )
    return random_images(source, count, seed=config.seed)


def preprocessing_settings(config: ConfigDict) -> dict[str, Any]:
    """Returns the arguments of `preprocess_image`."""
    return {name: config.data[name] for name in ("scale", "percentiles", "stain")}


def make_stream(
    config: ConfigDict,
    source: Source,
    task: Task,
    propose: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    part: BatchPart = COMPLETE,
) -> Stream:
    """Makes the stream of the rows of the training batches that a process makes.

    With external proposals if `propose` is not None.
    """
    settings = read_stream(config)
    with config_section("config.data"):
        return Stream(
            source,
            settings,
            process_index=part.index,
            process_count=part.count,
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
    settings, network = read_task(config)
    if isinstance(settings, SemanticConfig):
        with config_section("config.task"):
            outputs = output_channels(settings, num_classes)
        with config_section("config.model"):
            segmenter = create_segmenter(network, outputs=outputs)
        with config_section("config.task"):
            return SemanticTask(segmenter, num_classes, settings)
    with config_section("config.model"):
        detector = create_detector(network, classes=num_classes)
    with config_section("config.task"):
        return (rcnn_svm.SVMTask if svm else DetectionTask)(detector, num_classes, settings)


def make_setup(
    config: ConfigDict, metadata: ModelMetadata, devices: list[jax.Device] | None = None
) -> TrainSetup:
    """Makes the objects of a training run."""
    mesh, step_config = make_mesh(**vars(read_mesh(config)), devices=devices), read_step(config)
    with config_section("config"):
        check_batch(
            mesh, read_top(config).batch_size, step_config.num_microbatches, read_stream(config).patch_size
        )
    task = make_task(config, metadata)
    if mesh.shape["space"] > 1 and config.task.name != "semantic":
        raise InputError(
            f"config.mesh.space={mesh.shape['space']} splits the images of segmenters only, and"
            f" config.task.name is {config.task.name!r}: set it to 1"
        )
    params = param_shapes(config, task, metadata)
    frozen_leaves = _frozen_leaves(config, params)
    with config_section("config.optimizer"):
        optimizer = make_optimizer(read_optimizer(config), steps=config.steps, frozen=frozen_leaves)
    with config_section("config.augment"):
        augment = make_augment(patch_size=config.data.patch_size, **config.augment)
    shapes = jax.eval_shape(_state_maker(config, optimizer), params)
    step = make_step(task, optimizer, augment, mesh=mesh, state=shapes, config=step_config)
    return TrainSetup(task, optimizer, shapes, mesh, step)


def with_lower_rate(config: ConfigDict, halvings: int) -> ConfigDict:
    """Returns a config with the learning rate halved some times, for a run that has diverged as often."""
    lower = copy.deepcopy(config)
    lower.optimizer.learning_rate = config.optimizer.learning_rate * 0.5**halvings
    return lower


def sharded_shapes(setup: TrainSetup) -> State:
    """Returns the shapes of the state, with how they are sharded."""
    shardings = state_sharding(setup.mesh, setup.shapes)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        setup.shapes,
        shardings,
    )


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
        params = _load_weights(config, metadata, params)
    return jax.jit(_state_maker(config, setup.optimizer), out_shardings=shardings)(params)


def read_run(workdir: Path) -> tuple[ConfigDict, ModelMetadata]:
    """Reads the config of a run and the metadata of its network, for prediction and evaluation.

    Raises:
      InputError: if the folder contains no run, or a file in it is damaged.
    """
    config, metadata = read_config(workdir), read_metadata(workdir)
    try:
        check_prediction_settings(config)
    except InputError as error:
        raise InputError(
            f"{workdir / 'config.json'} is damaged, or of another version of segjax ({error}): restore it"
            " from a copy, or correct the field"
        ) from error
    return config, metadata


def restore_params(workdir: Path, config: ConfigDict, metadata: ModelMetadata) -> tuple[Task, Params, int]:
    """Restores a trained network: its task, its parameters on one device, and the step they are from.

    Raises:
      InputError: if there is no intact checkpoint.
    """
    from segjax.train.checkpoint_files import CheckpointReader  # slow to import: Orbax

    which = choose(("best", "latest"), "config.predict.checkpoint", config.predict.checkpoint)
    task = make_task(config, metadata)
    reader = CheckpointReader(workdir / "checkpoints")
    params, step = reader.restore_params(param_shapes(config, task, metadata), latest=which == "latest")
    return task, params, step


def _frozen_leaves(config: ConfigDict, params: Params) -> PyTree:
    """Returns True for parameters that are not trained: constants, and the modules in the config."""
    modules = tuple(config.model.get("frozen") or ())
    for module in modules:
        choose(params, "config.model.frozen", module)
    return {
        module: jax.tree.map(lambda leaf, module=module: leaf or module in modules, constant)
        for module, constant in frozen(params).items()
    }


def _load_weights(config: ConfigDict, metadata: ModelMetadata, params: Params) -> Params:
    """Returns the parameters with those of a weights file or of another run, as far as they match."""
    weights = Path(config.model.weights).expanduser()
    network = find(weights)
    if network is not None or weights.is_dir():
        if network is not None:
            checkpoint, header = load_network(network)
            channels, settings = header["metadata"]["channels"], header["config"]["model"]
        else:
            earlier, trained = read_run(weights)
            _, checkpoint, _ = restore_params(weights, earlier, trained)
            channels, settings = trained.channels, earlier.model
        check_compatible(config, metadata.channels, settings, channels)
        loaded, missing = load_matching(params, checkpoint, weights)
        if missing:
            logging.warning("not in %s, so randomly initialised: %s", weights, ", ".join(missing))
        return loaded
    if config.task.name == "semantic":
        return load_encoder(params, weights, encoder=config.model.encoder)
    loaded, missing = load_detector(params, weights, backbone=config.model.backbone)
    if missing:
        logging.warning("randomly initialised, because classes or anchors differ: %s", ", ".join(missing))
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
