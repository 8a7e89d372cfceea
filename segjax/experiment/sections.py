"""The sections of a config as dataclasses, which check every value.

Library code knows no config: its errors name a parameter, and this module prefixes the section.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from ml_collections import ConfigDict

from segjax.classical import make_method
from segjax.data.augmentation.policy import make_augment
from segjax.data.stream import StreamConfig
from segjax.errors import InputError, choose
from segjax.experiment.section_reading import config_section, part_of, read_section, section_of
from segjax.inference.settings import PredictConfig
from segjax.models.detectors import DetectorConfig
from segjax.models.segmenters import SegmenterConfig
from segjax.settings import Count, NonNegativeInt, Range, Settings
from segjax.tasks.detection_config import DetectionConfig
from segjax.tasks.semantic import SemanticConfig
from segjax.train.fit_config import FitConfig, LoopConfig
from segjax.train.optimizer import OptimizerConfig
from segjax.train.sharding import MeshConfig
from segjax.train.step import StepConfig

# Settings of the task and of the network, by `config.task.name`.
TASKS: dict[str, tuple[type[Any], type[Any]]] = {
    "semantic": (SemanticConfig, SegmenterConfig),
    "detection": (DetectionConfig, DetectorConfig),
}

# Fields that prediction and evaluation read.
READ_BY_PREDICTION = (
    *("seed", "steps", "batch_size", "dataset.data_dir", "dataset.headline", "dataset.test"),
    *("data.scale", "data.percentiles", "data.stain", "data.patch_size"),
    *("predict.checkpoint", "predict.tile", "predict.overlap"),
)


@dataclasses.dataclass(frozen=True)
class RunConfig(Settings):
    """The fields of a config that are in no section; see configs/semantic.py for all fields."""

    # JAX takes larger seeds modulo this.
    seed: Annotated[int, Range(0, 2**32, below=True)]
    steps: Count
    batch_size: Count
    # Earlier configs do not have it.
    ensemble: Annotated[int, Range(1, 64)] = 1


@dataclasses.dataclass(frozen=True)
class DatasetConfig(Settings):
    """The section `dataset`."""

    name: str
    train: str
    validation: str
    test: str
    data_dir: str | None = None
    classes: tuple[str, ...] | None = None
    # 3, see `MixedSource`.
    channels: Count | None = None
    headline: str | None = None
    train_images: Count | None = None
    allow_leaks: bool = False


@dataclasses.dataclass(frozen=True)
class LoadingConfig(Settings):
    """The fields of the section `data` that are not for the stream."""

    workers: NonNegativeInt = 2


@dataclasses.dataclass(frozen=True)
class WeightsConfig(Settings):
    """The fields of the section `model` that are not for the network."""

    weights: str | None = None
    frozen: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class UseConfig(Settings):
    """The fields of the section `predict` that are not for the predictor."""

    checkpoint: str = "best"
    fit: bool = False
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(("best", "latest"), "checkpoint", self.checkpoint)


@dataclasses.dataclass(frozen=True)
class ProposalsConfig(Settings):
    """The section `proposals`."""

    method: str
    max_proposals: Count
    workdir: str | None = None


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Settings):
    """The section `classifier` of a config of classical methods."""

    fit: bool = False
    file: str | None = None


def read_top(config: ConfigDict) -> RunConfig:
    """Reads the fields that are in no section."""
    return read_section(RunConfig, part_of(config, RunConfig), "config")


def read_stream(config: ConfigDict) -> StreamConfig:
    """Reads the settings of the training batches."""
    values: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    if "proposals" in config:
        values["max_proposals"] = read_proposals(config).max_proposals
    section = part_of(section_of(config, "data"), LoadingConfig, without=True)
    return read_section(StreamConfig, section, "config.data", **values)


def read_proposals(config: ConfigDict) -> ProposalsConfig:
    """Reads the settings of external region proposals."""
    return read_section(ProposalsConfig, section_of(config, "proposals"), "config.proposals")


def read_task(config: ConfigDict) -> tuple[Any, Any]:
    """Reads the settings of the task and of its network."""
    section, model = section_of(config, "task"), section_of(config, "model")
    task, network = choose(TASKS, "config.task.name", section.get("name"))
    settings = {name: value for name, value in section.items() if name != "name"}
    return (
        read_section(task, settings, "config.task"),
        read_section(network, part_of(model, WeightsConfig, without=True), "config.model"),
    )


def read_weights(config: ConfigDict) -> WeightsConfig:
    """Reads which parameters a network starts with, and which are not trained."""
    return read_section(WeightsConfig, part_of(section_of(config, "model"), WeightsConfig), "config.model")


def read_optimizer(config: ConfigDict) -> OptimizerConfig:
    """Reads the settings of the optimizer."""
    return read_section(OptimizerConfig, section_of(config, "optimizer"), "config.optimizer")


def read_fit(config: ConfigDict) -> FitConfig:
    """Reads the settings of the training loop."""
    section = part_of(section_of(config, "train"), StepConfig, without=True)
    return FitConfig(**vars(read_section(LoopConfig, section, "config.train", steps=config.steps)))


def read_step(config: ConfigDict) -> StepConfig:
    """Reads the settings of the training step."""
    return read_section(StepConfig, part_of(section_of(config, "train"), StepConfig), "config.train")


def read_mesh(config: ConfigDict) -> MeshConfig:
    """Reads the numbers of devices."""
    return read_section(MeshConfig, section_of(config, "mesh"), "config.mesh")


def read_predict(config: ConfigDict) -> PredictConfig:
    """Reads the settings of the predictor."""
    data = section_of(config, "data")
    return read_section(
        PredictConfig,
        part_of(section_of(config, "predict"), UseConfig, without=True),
        "config.predict",
        trained_diameter=data.get("diameter"),
        trained_patch=data.patch_size,
    )


def check_prediction_settings(config: ConfigDict) -> None:
    """Checks those values of the config of a run that its prediction and evaluation read.

    Raises:
      InputError: as `check_settings`.
    """
    for path in READ_BY_PREDICTION:
        section, _, name = path.rpartition(".")
        if name not in (section_of(config, section) if section else config):
            raise InputError(f"config.{path} is missing: set it, as the configs in configs/ do")
    read_top(config)
    read_section(DatasetConfig, section_of(config, "dataset"), "config.dataset")
    data = part_of(section_of(config, "data"), StreamConfig)  # earlier versions had other fields as well
    read_section(StreamConfig, data, "config.data", seed=config.seed, batch_size=config.batch_size)
    read_task(config)
    read_predict(config)
    read_section(UseConfig, part_of(section_of(config, "predict"), UseConfig), "config.predict")
    _check_classical(section_of(config, "reference"), "config.reference")
    if "proposals" in config:
        read_proposals(config)


def check_settings(config: ConfigDict) -> None:
    """Checks every value of a config of a network, as far as that needs neither data nor devices.

    Raises:
      InputError: if a section or field is unknown or missing, or a value is not allowed; it names the field.
    """
    read_top(config)
    read_section(DatasetConfig, section_of(config, "dataset"), "config.dataset")
    stream = read_stream(config)
    read_section(LoadingConfig, part_of(section_of(config, "data"), LoadingConfig), "config.data")
    with config_section("config.augment"):
        make_augment(patch_size=stream.patch_size, **section_of(config, "augment"))
    read_task(config)
    read_weights(config)
    read_optimizer(config)
    read_fit(config)
    read_step(config)
    read_mesh(config)
    read_predict(config)
    read_section(UseConfig, part_of(section_of(config, "predict"), UseConfig), "config.predict")
    _check_classical(section_of(config, "reference"), "config.reference")


def check_classical_settings(config: ConfigDict) -> None:
    """Checks every value of a config of classical methods, as `check_settings`."""
    read_section(DatasetConfig, section_of(config, "dataset"), "config.dataset")
    read_section(ClassifierConfig, section_of(config, "classifier"), "config.classifier")
    for name in section_of(config, "methods"):
        section = section_of(config.methods, name)
        _check_classical(ConfigDict({**section, "name": name}), f"config.methods.{name}")
    _check_classical(section_of(config, "reference"), "config.reference")


def _check_classical(section: ConfigDict, path: str) -> None:
    if "name" not in section:
        raise InputError(f"{path}.name is missing: set it to a classical method")
    with config_section(path):
        make_method(**section)
