"""Networks that need no folder of a run: exports a run to one file, and opens such a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.experiment.decoder_fit import fitted_settings, with_settings
from segjax.experiment.sections import check_prediction_settings
from segjax.experiment.setup import make_task, param_shapes, read_run, restore_params
from segjax.experiment.workdir import ModelMetadata, make_config, make_metadata
from segjax.models.weights.file import flatten
from segjax.models.weights.loading import check_match
from segjax.models.weights.network import load_network, save_network
from segjax.tasks.base import Task
from segjax.typing import Params

# Fields with paths of the machine on which a network was trained.
PRIVATE = (("dataset", "data_dir"), ("model", "weights"), ("proposals", "workdir"))


class Pretrained(NamedTuple):
    """A trained network.

    Attributes:
      config: the config of its run.
      metadata: its classes and channels.
      task: the network with its fitted decoder.
      params: its parameters, float32.
      step: step of the parameters.
    """

    config: ConfigDict
    metadata: ModelMetadata
    task: Task
    params: Params
    step: int


def export_run(workdir: Path, path: Path) -> str:
    """Writes the network of a run, its fitted decoder included, into one file; returns its digest.

    Raises:
      InputError: if the run has no checkpoint, ends with SVMs or takes its proposals from another run, or if
        the file cannot be written.
    """
    config, metadata = read_run(workdir)
    if config.task.get("classifier") == "svm":
        raise InputError(f"{workdir} ends with SVMs, which have no place in one file: use the folder itself")
    if config.get("proposals", {}).get("method") == "rpn":
        raise InputError(
            f"{workdir} takes its proposals from another run, which has no place in one file: use the folder"
            " itself"
        )
    _, params, step = restore_params(workdir, config, metadata)
    content = json.loads(config.to_json())
    for section, field in PRIVATE:
        if field in content.get(section, {}):
            content[section][field] = None
    header = {
        "config": content,
        "metadata": metadata._asdict(),
        "decoder": fitted_settings(workdir, step, params),
        "step": step,
    }
    return save_network(path, params, header)


def open_pretrained(path: Path) -> Pretrained:
    """Opens a file that `export_run` wrote.

    Raises:
      InputError: if the file is damaged, of another version, or was not written by `export_run`.
    """
    params, header = load_network(path)
    try:
        config = make_config(header["config"], path)
        check_prediction_settings(config)
        metadata = make_metadata(header["metadata"], path)
        task: Any = with_settings(make_task(config, metadata), header["decoder"])
        step = int(header["step"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not fit this version of segjax ({error}): export it again") from error
    check_match(flatten(params), flatten(param_shapes(config, task, metadata)), path)
    return Pretrained(config, metadata, task, params, step)
