"""Writers of training curves to experiment trackers; each tracker is an optional extra and works offline."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from segjax.errors import InputError, choose, first_line
from segjax.files import read_json_object, write_json

_log = logging.getLogger(__name__)
PROJECT = "segjax"
# File in the folder of a run with its id in each tracker, under which a resumed run continues.
FILE = "trackers.json"


class Tracker(Protocol):
    """A run in a tracker.

    Attributes:
      id: id of the run in the tracker.
    """

    id: str

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes finite numbers of a step."""

    def close(self) -> None:
        """Ends the run; it can be continued later."""


class Trackio:
    """Writes to trackio's database in `TRACKIO_DIR` or the home folder; `trackio show` displays it."""

    def __init__(self, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        import trackio

        self.id = run_id or f"{folder.name}-{uuid.uuid4().hex[:8]}"
        self._run = trackio.init(
            project=PROJECT,
            name=self.id,
            config=dict(config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Writes what is left."""
        self._run.finish()


class Wandb:
    """Writes to `wandb/` in the folder, for `wandb sync`; with `WANDB_MODE=online` also to the server."""

    def __init__(self, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        import wandb

        self.id = run_id or uuid.uuid4().hex
        self._run = wandb.init(
            project=PROJECT,
            id=self.id,
            name=folder.name,
            config=dict(config),
            dir=folder,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )
        # wandb's own steps cannot decrease, but the steps of a run do when it resumes from a checkpoint.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Writes what is left."""
        self._run.finish()


class Mlflow:
    """Writes to `mlflow.db` in the folder, for `mlflow ui`; or to the server in `MLFLOW_TRACKING_URI`."""

    def __init__(self, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        local = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        if run_id is None:
            experiment = self._client.get_experiment_by_name(PROJECT)
            number = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
            run_id = self._client.create_run(number, run_name=folder.name).info.run_id
            for section, value in config.items():
                self._client.log_param(run_id, section, value)
        self.id = run_id
        self._client.update_run(run_id, status="RUNNING")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values."""
        now = time.time_ns() // 10**6
        self._client.log_batch(
            self.id, [self._metric(name, value, now, step) for name, value in values.items()]
        )

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self.id)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], str | None], Tracker]] = {
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def check_tracker(name: str) -> None:
    """Checks that a tracker is installed.

    Raises:
      InputError: if it is not installed, or is unknown.
    """
    choose(TRACKERS, "--track", name)
    if importlib.util.find_spec(name) is None:
        raise InputError(f'--track={name} needs a package: pip install "segjax[{name}]"')


class Tracking:
    """The run of a folder in a tracker; a new run if the folder has none yet.

    After an error, which is logged, the tracker is not used again: each call might wait for a server.

    Args:
      name: one of `TRACKERS`; "" for none.
      folder: folder of the run, with its config.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        if name:
            with self._catching():
                self._tracker = _open(name, folder)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes finite numbers of a step."""
        if self._tracker is not None:
            with self._catching():
                self._tracker.write(step, values)

    def close(self) -> None:
        """Ends the run; it can be continued later."""
        if self._tracker is not None:
            with self._catching():
                self._tracker.close()
        self._tracker = None

    @contextmanager
    def _catching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # trackers raise many types
            self._tracker = None
            _log.warning("%s failed (%s): training goes on without it", self._name, first_line(error))


def _open(name: str, folder: Path) -> Tracker:
    path, config = folder / FILE, folder / "config.json"
    ids = read_json_object(path) if path.exists() else {}
    settings = read_json_object(config) if config.exists() else {}
    tracker = TRACKERS[name](folder, settings, ids.get(name))
    write_json(path, {**ids, name: tracker.id})
    return tracker
