"""From a config to the objects it describes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from segjax.classical.region_proposals import PROPOSALS
from segjax.data.augmentation.policy import make_augment
from segjax.data.preprocess import preprocess_image
from segjax.data.records import Source
from segjax.data.stream import Stream
from segjax.datasets.catalog import open_source
from segjax.errors import InputError
from segjax.experiment.proposal_cache import Proposer, cached_proposals
from segjax.experiment.workdir import ModelMetadata, read_config, read_metadata
from segjax.inference.predictor import Predictor
from segjax.models.detectors import create_detector
from segjax.models.segmenters import create_segmenter
from segjax.models.weights.loading import check_parts, load_detector, load_encoder, load_matching
from segjax.tasks import TASKS, Task, rcnn_svm
from segjax.tasks.semantic import output_channels
from segjax.train.checkpoint import Checkpoints
from segjax.train.optimizer import make_optimizer
from segjax.train.sharding import check_batch, make_mesh, state_sharding
from segjax.train.state import State, fingerprint, make_state
from segjax.train.step import Step, make_step
from segjax.typing import Model, Params, PyTree

# For what runs once: initialisation took 15 s to compile with all optimisations, and takes 3 s without.
RUN_ONCE = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": "True"}
SPLITS = ("train", "validation", "test")


class TrainSetup(NamedTuple):
    """How a network learns; nothing is computed yet.

    Attributes:
      task: of the network.
      optimizer: of its parameters.
      shapes: the state, as shapes.
      mesh: the devices.
      step: takes the state one step further.
    """

    task: Task
    optimizer: optax.GradientTransformation
    shapes: State
    mesh: jax.sharding.Mesh
    step: Step


def open_split(config: ConfigDict, split: str) -> Source:
    """Opens the data of a split, "train", "validation" or "test", as the config defines them."""
    if split not in SPLITS:
        raise InputError(f"--split={split} is unknown: choose one of {', '.join(SPLITS)}")
    return open_source(config.dataset.name, config.dataset[split], data_dir=config.dataset.data_dir)


def preparation(config: ConfigDict) -> dict[str, Any]:
    """What is done to every image before a network sees it, by the arguments of `preprocess_image`."""
    return {
        "scale": config.data.scale,
        "percentiles": tuple(config.data.percentiles),
        # Runs of earlier versions have none.
        "stain": config.data.get("stain"),
    }


def make_stream(config: ConfigDict, source: Source) -> Stream:
    """The batches that a config trains on."""
    objects = {}
    if "max_instances" in config.data:
        objects["max_instances"] = config.data.max_instances
    if "proposals" in config:
        objects["propose"] = make_proposer(config)
        objects["max_proposals"] = config.proposals.max_proposals
    return Stream(
        source,
        seed=config.seed,
        batch_size=config.batch_size,
        patch_size=config.data.patch_size,
        **preparation(config),
        foreground_fraction=config.data.foreground_fraction,
        margin=config.data.margin,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **objects,
    )


def make_setup(
    config: ConfigDict, description: ModelMetadata, devices: list[jax.Device] | None = None
) -> TrainSetup:
    """How the network of a config learns."""
    mesh = make_mesh(**config.mesh, devices=devices)
    check_batch(mesh, config.batch_size, config.train.accumulate)
    task = make_task(config, description)
    params = jax.eval_shape(_initialiser(config, task, description), jax.random.key(0))
    optimizer = make_optimizer(**config.optimizer, steps=config.steps, frozen=_frozen(config, task, params))
    shapes = jax.eval_shape(_state_maker(config, optimizer), params)
    step = make_step(
        task,
        optimizer,
        make_augment(patch_size=config.data.patch_size, **config.augment),
        mesh=mesh,
        state=shapes,
        ema_decay=config.train.ema_decay,
        accumulate=config.train.accumulate,
    )
    return TrainSetup(task, optimizer, shapes, mesh, step)


def make_first_state(config: ConfigDict, description: ModelMetadata, learning: TrainSetup) -> State:
    """The state before the first step, laid out on the mesh; pretrained weights are loaded here."""
    held = state_sharding(learning.mesh, learning.shapes)
    init = _initialiser(config, learning.task, description)
    params = jax.jit(init, out_shardings=held.params, compiler_options=RUN_ONCE)(jax.random.key(config.seed))
    if config.model.weights:
        params = _load_weights(config, params)
    return jax.jit(_state_maker(config, learning.optimizer), out_shardings=held)(params)


def make_task(config: ConfigDict, description: ModelMetadata, *, fitted: bool = False) -> Task:
    """Makes the task of a config, its network included.

    Args:
      config: of a run.
      description: what its network is trained for.
      fitted: whether SVMs have taken the place of the classes that were trained, see `experiment.svm`.
    """
    settings = dict(config.task)
    settings.pop("classifier", None)
    name = settings.pop("name")
    if name not in TASKS:
        raise InputError(f"config.task.name={name!r} is unknown: choose one of {', '.join(TASKS)}")
    num_classes = len(description.class_names)
    network = {field: value for field, value in config.model.items() if field not in ("weights", "frozen")}
    for field, value in settings.items():
        if isinstance(value, ConfigDict):
            settings[field] = dict(value)
    if name == "instance":
        model: Model = create_detector(**network, num_classes=num_classes)
        settings |= {"aligned": config.model.aligned, "margins": fitted}
    else:
        model = create_segmenter(**network, outputs=output_channels(settings["instances"], num_classes))
    return TASKS[name](model, num_classes=num_classes, **settings)


def make_predictor(config: ConfigDict, task: Task, params: Params) -> Predictor:
    """Makes a method of a trained network."""
    prepare = functools.partial(preprocess_image, **preparation(config))
    settings = {name: config.predict[name] for name in ("tile", "overlap", "flips")}
    if task.proposals:
        settings |= {"propose": make_proposer(config), "max_proposals": config.proposals.max_proposals}
    return Predictor(task, params, prepare=prepare, **settings)


def make_proposer(config: ConfigDict) -> Proposer:
    """The proposals of a config, which are kept beside its data.

    Raises:
      InputError: if there is no such method, or no run with an RPN.
    """
    method = config.proposals.method
    if method != "rpn":
        if method not in PROPOSALS:
            raise InputError(
                f"config.proposals.method={method!r} is unknown: choose one of {', '.join(PROPOSALS)}, rpn"
            )
        return cached_proposals(PROPOSALS[method], method, config)
    if not config.proposals.workdir:
        raise InputError("config.proposals.method=rpn needs config.proposals.workdir, a run with an RPN")
    workdir = Path(config.proposals.workdir)
    theirs = read_config(workdir)
    learning, params, _ = restore(workdir, theirs, read_metadata(workdir))
    if learning.task.propose is None:
        raise InputError(
            f"config.proposals.workdir={workdir} has no RPN: give a run of faster_r_cnn or mask_r_cnn"
        )
    predictor = make_predictor(theirs, learning.task, params)
    # Other parameters and other settings propose other boxes.
    settings = hashlib.sha256(f"{fingerprint(params)} {theirs.to_json(sort_keys=True)}".encode())
    return cached_proposals(predictor.propose, f"rpn-{settings.hexdigest()[:16]}", config)


def open_workdir(workdir: Path, config: ConfigDict, description: ModelMetadata) -> tuple[Predictor, int]:
    """The trained method of a run, and the step it is from.

    Raises:
      InputError: if there is no checkpoint that can be trusted.
    """
    learning, params, step = restore(workdir, config, description)
    if not has_svm(config):
        return make_predictor(config, learning.task, params), step
    task = make_task(config, description, fitted=True)
    return make_predictor(config, task, rcnn_svm.load(params, workdir, step)), step


def has_svm(config: ConfigDict) -> bool:
    """Whether a config wants SVMs in the place of the trained classes."""
    return config.task.get("classifier", "softmax") == "svm"


def restore(workdir: Path, config: ConfigDict, description: ModelMetadata) -> tuple[TrainSetup, Params, int]:
    """How the network of a run learned, its parameters on one device, and the step that they are from.

    Raises:
      InputError: if there is no checkpoint that can be trusted.
    """
    which = config.predict.checkpoint
    if which not in ("best", "latest"):
        raise InputError(f"config.predict.checkpoint={which!r} is unknown: choose best or latest")
    one_device = ConfigDict(config.to_dict() | {"mesh": {"data": 1, "fsdp": 1}})
    learning = make_setup(one_device, description)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        step = checkpoints.best() if which == "best" else None
        found = checkpoints.restore(learning.shapes, learning.mesh, step=step)
    if found is None:
        raise InputError(
            f"there is no checkpoint in {workdir / 'checkpoints'} yet: scripts/train.py makes one"
        )
    state, _ = found
    return learning, state.eval_params, int(state.step)


def _frozen(config: ConfigDict, task: Task, params: Params) -> PyTree:
    """What must not change: what the task says, and the parts that the config names."""
    parts = tuple(config.model.get("frozen", ()))
    check_parts(params, parts, "config.model.frozen")
    return {
        part: jax.tree.map(lambda leaf, part=part: leaf or part in parts, fixed)
        for part, fixed in task.frozen(params).items()
    }


def _load_weights(config: ConfigDict, params: Params) -> Params:
    if Path(config.model.weights).is_dir():
        workdir = Path(config.model.weights)
        _, found, _ = restore(workdir, read_config(workdir), read_metadata(workdir))
        loaded, missing = load_matching(params, found, workdir)
        if missing:
            logging.warning("randomly initialised, because %s has none: %s", workdir, ", ".join(missing))
        return loaded
    if config.task.name != "instance":
        return load_encoder(params, config.model.weights, encoder=config.model.encoder)
    loaded, missing = load_detector(params, config.model.weights, backbone=config.model.backbone)
    if missing:
        logging.warning("randomly initialised, for other classes or anchors: %s", ", ".join(missing))
    return loaded


def _initialiser(config: ConfigDict, task: Task, description: ModelMetadata) -> Callable[[jax.Array], Params]:
    size = config.data.patch_size
    example = {"image": np.zeros((1, size, size, description.channels), np.float32)}
    return lambda key: task.init(key, example)


def _state_maker(config: ConfigDict, optimizer: optax.GradientTransformation) -> Callable[[Params], State]:
    return functools.partial(make_state, optimizer=optimizer, keep_ema=config.train.ema_decay > 0)
