"""Checks the config of a point before the first point runs, as far as that needs no data and no device."""

from __future__ import annotations

import functools
import json

import jax
from ml_collections import ConfigDict

from segjax.ablation.named_files import check_files
from segjax.errors import InputError, choose
from segjax.experiment.ensembles import refuse_ensemble
from segjax.experiment.methods import check_use, proposal_method
from segjax.experiment.section_reading import config_section
from segjax.experiment.sections import (
    check_classical_settings,
    check_settings,
    read_optimizer,
    read_step,
    read_stream,
    read_task,
    read_top,
)
from segjax.experiment.setup import make_task, param_shapes
from segjax.experiment.workdir import ModelMetadata, lists_to_tuples
from segjax.tasks.semantic import SemanticConfig
from segjax.train.optimizer import make_optimizer
from segjax.train.sharding import check_batch, make_mesh


def check_point(config: ConfigDict) -> None:
    """Checks a config by the functions that its training, or its method, uses.

    Raises:
      InputError: if a value is not allowed, or a file that the config names is missing.
    """
    if "methods" in config:
        check_classical_settings(config)
        if len(config.methods) != 1:
            raise InputError(
                f"config.methods has {len(config.methods)} methods, and a point is one: choose it, such as"
                " classical:method=kmeans"
            )
    else:
        _check_network(config)
    check_files(config)


def _check_network(config: ConfigDict) -> None:
    check_settings(config)
    refuse_ensemble(config, "a point of a sweep")
    metadata = _metadata(config)
    task = make_task(config, metadata)
    check_use(config, task)
    with config_section("config.optimizer"):
        make_optimizer(read_optimizer(config), steps=config.steps, frozen={})
    if "proposals" in config:
        proposal_method(config)
    # The devices of the process that trains are not known.
    mesh = make_mesh(data=1, fsdp=1, devices=jax.devices()[:1])
    with config_section("config"):
        check_batch(
            mesh,
            read_top(config).batch_size,
            read_step(config).num_microbatches,
            read_stream(config).patch_size,
        )
    for module in config.model.get("frozen") or ():
        choose(_modules(_network(config), metadata), "config.model.frozen", module)


def _metadata(config: ConfigDict) -> ModelMetadata:
    """Returns as many classes as the task has settings for; the data have the right ones."""
    settings, _ = read_task(config)
    count = 2
    if isinstance(settings, SemanticConfig):
        count = max(2, len(settings.class_weights or ()), len(settings.min_area) + 1)
    return ModelMetadata(tuple(map(str, range(count))), 1)


def _network(config: ConfigDict) -> str:
    """Returns the fields that a network is made from, as JSON."""
    fields = {name: config[name].to_dict() for name in ("model", "task")}
    fields["data"] = {"patch_size": config.data.patch_size}
    for name in ("weights", "frozen"):
        fields["model"].pop(name, None)
    return json.dumps(fields, sort_keys=True)


@functools.lru_cache(maxsize=64)
def _modules(network: str, metadata: ModelMetadata) -> tuple[str, ...]:
    """Returns the names of the modules of a network, from `_network`; points often have the same one."""
    config = ConfigDict(lists_to_tuples(json.loads(network)))
    return tuple(param_shapes(config, make_task(config, metadata), metadata))
