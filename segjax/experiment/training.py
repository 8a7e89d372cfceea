"""Trains a config in a folder, or several seeds of it together."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from ml_collections import ConfigDict

from segjax.data.prefetch import prefetch
from segjax.data.records import Source
from segjax.data.stream import Stream
from segjax.errors import InputError
from segjax.experiment import decoder_fit, environment
from segjax.experiment.decoder_fit import DecoderFit, fit_decoder
from segjax.experiment.ensembles import refuse_ensemble, seeds_of
from segjax.experiment.leaks import check_leaks, data_digests
from segjax.experiment.methods import (
    check_use,
    has_svm,
    make_predictor,
    make_proposer,
    open_run,
)
from segjax.experiment.section_reading import config_section
from segjax.experiment.sections import check_settings, read_fit, read_proposals
from segjax.experiment.setup import (
    TrainSetup,
    make_first_state,
    make_setup,
    make_stream,
    open_split,
    preprocessing_settings,
    restore_params,
    sharded_shapes,
    with_lower_rate,
)
from segjax.experiment.validation import Validation
from segjax.experiment.workdir import (
    ModelMetadata,
    check_config,
    flat_config,
    lock_workdir,
    write_config,
    write_metadata,
)
from segjax.inference.predictor import Predictor
from segjax.tasks import rcnn_svm
from segjax.tasks.detection import DetectionTask
from segjax.train.checkpoint import Checkpoints
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.loop import Result, fit
from segjax.train.members import Training, train_together
from segjax.train.processes import LONG_LIMIT, all_or_none, check_equal
from segjax.train.resume import Provenance, Start, resume
from segjax.train.rollback import Rollback, with_rollbacks
from segjax.train.sharding import batch_part
from segjax.train.state import fingerprint
from segjax.train.trackers import check_tracker


class _Run(NamedTuple):
    """One seed of a training."""

    config: ConfigDict
    workdir: Path
    metadata: ModelMetadata
    source: Source
    validation: Source
    provenance: Provenance


def train(config: ConfigDict, workdir: Path, *, accept_changes: bool = False, pause: int = 0) -> Result:
    """Trains one seed of a config in a folder; arguments and errors are those of `train_seeds`."""
    refuse_ensemble(config, "a training in one folder")
    return train_seeds(config, workdir, accept_changes=accept_changes, pause=pause)[workdir]


def train_seeds(
    config: ConfigDict,
    workdir: Path,
    *,
    accept_changes: bool = False,
    profile: int = 0,
    track: str = "",
    pause: int = 0,
) -> dict[Path, Result]:
    """Trains the seeds of a config, resuming where an earlier run of the same command stopped.

    Args:
      config: the config.
      workdir: the folder, which one training at a time may use. With `config.ensemble`, it has a folder for
        each seed, with the files that training this seed alone makes.
      accept_changes: whether config and data may differ from those of the earlier run in ways that change
        what is learned. The log names each change, with the step from which it holds.
      profile: number of steps of a trace for TensorBoard, in `profile/`; 0 for none.
      track: the tracker that the curves are also written to, one of `TRACKERS`; "" for none.
      pause: step after which the training pauses, see `FitConfig`; 0 for none.

    Returns:
      The result of each seed, by its folder.

    Raises:
      InputError: if another training uses the folder, it belongs to another config, a setting is invalid, or
        the tracker is not installed; or if seeds have failed, after the others are complete.
      Interrupted: after SIGTERM or Ctrl-C, when everything is saved.
    """
    with ExitStack() as stack:
        # 1. The folders belong to this config, which can be used for prediction; the splits do not leak.
        with all_or_none("the start of the run"):
            check_settings(config)
            if profile or track:
                refuse_ensemble(config, "--profile" if profile else "--track")
            if track:
                check_tracker(track)
            settings = dataclasses.replace(read_fit(config), profile=profile, track=track, pause=pause)
            seeds = seeds_of(config, workdir)
            for folder, own in seeds.items():
                if jax.process_index() == 0:
                    stack.enter_context(lock_workdir(folder))
                check_config(folder, own, accept_changes=accept_changes)
            check_leaks(config)
            # Of all images, from which a seed may draw some.
            data = data_digests({split: open_split(config, split) for split in ("train", "validation")})
            runs = [_open(own, folder, data) for folder, own in seeds.items()]
        _check_processes(config, data)

        # 2. The networks learn, all by the same compiled step.
        with all_or_none("the network and its batches"):
            setup = make_setup(config, runs[0].metadata)
            check_use(config, setup.task)
            streams = _make_streams(runs, setup)
        resume_run = functools.partial(resume, accept_changes=accept_changes)
        outcomes = train_together(
            [
                _fit_network(run, setup, stream, settings, resume_run)
                for run, stream in zip(runs, streams, strict=True)
            ]
        )

        # 3. Each is completed.
        results, errors = {}, {}
        for run, outcome in zip(runs, outcomes, strict=True):
            if isinstance(outcome, InputError):
                errors[run.workdir] = outcome
            else:
                if not outcome.paused:
                    _complete(run)
                results[run.workdir] = outcome
    if errors:
        raise errors[workdir] if workdir in errors else _failure(errors)
    return results


def _open(config: ConfigDict, workdir: Path, data: Mapping[str, str]) -> _Run:
    """Opens the data of a run."""
    source, validation = open_split(config, "train"), open_split(config, "validation")
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    provenance = Provenance(data, flat_config(config), environment.versions())
    return _Run(config, workdir, metadata, source, validation, provenance)


def _make_streams(runs: Sequence[_Run], setup: TrainSetup) -> list[Stream]:
    """Makes the batches that the loss needs."""

    def make(run: _Run) -> Stream:
        propose = make_proposer(run.config)
        return make_stream(run.config, run.source, setup.task, propose, part=batch_part(setup.mesh))

    first, *others = runs
    if first.config.dataset.get("train_images") is not None:  # each seed draws its own
        return [make(run) for run in runs]
    stream = make(first)
    return [stream, *(stream.with_seed(run.config.seed) for run in others)]


def _fit_network(
    run: _Run,
    setup: TrainSetup,
    stream: Stream,
    settings: FitConfig,
    resume_run: Callable[..., Start],
) -> Training[Result]:
    config, metadata = run.config, run.metadata

    def attempt(checkpoints: Checkpoints, rollback: Rollback | None) -> Training[Result]:
        # 1. The run starts at the newest checkpoint; the folder has the new config if that fits.
        first = functools.partial(make_first_state, config, metadata, setup)
        start = resume_run(sharded_shapes(setup), checkpoints, run.provenance, first=first).after(rollback)
        if jax.process_index() == 0:
            write_metadata(run.workdir, metadata)
            write_config(run.workdir, config)
        current = make_setup(with_lower_rate(config, start.rollbacks), metadata) if start.rollbacks else setup

        # 2. Validation uses the method that prediction will use.
        predictor = make_predictor(config, setup.task, start.state.eval_params)
        return fit(
            KeyedStep(current.step, jax.random.key(config.seed)),
            start,
            functools.partial(prefetch, stream, workers=config.data.workers),
            checkpoints,
            settings,
            folder=run.workdir,
            validate=Validation(predictor, run.validation, config.dataset.headline),
            image_names=stream.names,
        )

    # 3. A run that has diverged goes back to its last good checkpoint.
    with Checkpoints(run.workdir / "checkpoints") as checkpoints:
        again = functools.partial(attempt, checkpoints)
        return (yield from with_rollbacks(again, checkpoints, limit=settings.rollback))


def _complete(run: _Run) -> None:
    # R-CNN ends with SVMs on the features of the parameters that evaluation will use.
    if has_svm(run.config):
        with all_or_none("the fit of the SVMs", limit=LONG_LIMIT):
            if jax.process_index() == 0:
                _fit_svm(run.config, run.workdir, run.metadata, run.source)
    # The decoder takes the settings that are best on the validation split.
    if run.config.predict.fit and len(run.validation) >= decoder_fit.MIN_IMAGES:
        fit_run(run.config, run.workdir, run.validation)


def _failure(errors: Mapping[Path, InputError]) -> InputError:
    """Returns the error of seeds that failed; the others are complete."""
    (folder, error), *others = errors.items()
    more = f"; also failed: {', '.join(folder.name for folder, _ in others)}" if others else ""
    return InputError(f"{folder}: {error}{more}")


def _check_processes(config: ConfigDict, data: Mapping[str, str]) -> None:
    """Checks that all processes train the same config on the same data."""
    values = {name: value for name, value in flat_config(config).items() if name != "dataset.data_dir"}
    for name, content in (("config", values), ("data set", dict(data))):
        check_equal(json.dumps(content, sort_keys=True), name)


def fit_run(config: ConfigDict, workdir: Path, validation: Source, *, again: bool = False) -> DecoderFit:
    """Fits the decoder of a trained run, and stores the result in its folder; all processes call it.

    Args:
      config: config of the run.
      workdir: its folder.
      validation: the validation split.
      again: whether to replace an earlier fit for the same parameters, or one that is damaged.
    """
    with all_or_none("the network to fit"):
        opened = open_run(workdir, fitted=False)
        earlier = None if again else decoder_fit.load(workdir)
    check_equal(f"{opened.digest} {earlier}", "network")
    how, params = flat_config(config.predict), fingerprint(cast(Any, opened.method).params)
    predict = {name: how[name] for name in how if name not in ("fit", "checkpoint")}
    if (
        earlier is not None
        and earlier.step == opened.step
        and earlier.predict in (None, predict)
        and earlier.params in (None, params)
    ):
        return earlier
    with config_section("config.predict"):
        result = fit_decoder(
            cast(Predictor, opened.method), validation, step=opened.step or 0, fixed=how.get("fixed", ())
        )
    with all_or_none("the file of the decoder"):
        if jax.process_index() == 0:
            decoder_fit.save(result._replace(predict=predict, params=params), workdir)
    return result


def _fit_svm(config: ConfigDict, workdir: Path, metadata: ModelMetadata, source: Source) -> None:
    """Fits and stores the SVMs of the step that prediction uses, unless they are there."""
    task, params, step = restore_params(workdir, config, metadata)
    network = fingerprint(params)
    if rcnn_svm.stored_step(workdir, network=network) == step:
        return
    propose = make_proposer(config)
    if not isinstance(task, DetectionTask) or propose is None:
        raise InputError("config.task.classifier='svm' needs external proposals: choose softmax")
    roi_features, encode = jax.jit(task.roi_features), None
    if task.model.backbone is not None:
        roi_features = jax.jit(task.pooled_features)
        encode = functools.partial(jax.jit(task.encode), params)
    images = rcnn_svm.describe_images(
        source,
        functools.partial(roi_features, params),
        propose=propose,
        max_proposals=read_proposals(config).max_proposals,
        encode=encode,
        **preprocessing_settings(config),
    )
    predictor = rcnn_svm.fit_predictor(images, num_classes=len(metadata.class_names), seed=config.seed)
    rcnn_svm.save(predictor, workdir, step, network=network)
