"""Trains a config in a folder."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import jax
from ml_collections import ConfigDict

from segjax.data.prefetch import prefetch
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment import decoder_fit, environment
from segjax.experiment.decoder_fit import DecoderFit, fit_decoder
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
    make_first_state,
    make_setup,
    make_stream,
    open_split,
    preprocessing_settings,
    restore_params,
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
from segjax.train.loop import FitConfig, Result, fit
from segjax.train.processes import LONG_LIMIT, all_or_none, check_equal
from segjax.train.resume import Provenance, Start, resume
from segjax.train.rollback import Rollback, with_rollbacks
from segjax.train.sharding import batch_part
from segjax.train.state import State
from segjax.train.trackers import check_tracker


def train(
    config: ConfigDict, workdir: Path, *, accept_changes: bool = False, profile: int = 0, track: str = ""
) -> Result:
    """Trains a config in a folder, resuming where an earlier run of the same command stopped.

    Args:
      config: the config.
      workdir: the folder, which one training at a time may use.
      accept_changes: whether config and data may differ from those of the earlier run in ways that change
        what is learned. The log names each change, with the step from which it holds.
      profile: number of steps of a trace for TensorBoard, in `profile/`; 0 for none.
      track: the tracker that the curves are also written to, one of `TRACKERS`; "" for none.

    Raises:
      InputError: if another training uses the folder, it belongs to another config, a setting is invalid, or
        the tracker is not installed.
      Interrupted: after SIGTERM or Ctrl-C, when everything is saved.
    """
    # 1. The folder belongs to this config, which can be used for prediction; the splits do not leak.
    is_first = jax.process_index() == 0
    with ExitStack() as stack:
        with all_or_none("the start of the run"):
            check_settings(config)
            if track:
                check_tracker(track)
            if is_first:
                stack.enter_context(lock_workdir(workdir))
            check_config(workdir, config, accept_changes=accept_changes)
            source, validation = open_split(config, "train"), open_split(config, "validation")
            check_leaks(config)
            metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
            if is_first:
                write_metadata(workdir, metadata)
            provenance = Provenance(
                data_digests({"train": source, "validation": validation}),
                flat_config(config),
                environment.versions(),
            )
        _check_processes(provenance)

        # 2. The network learns.
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            result = _fit_network(
                config,
                workdir,
                metadata,
                checkpoints,
                (source, validation),
                functools.partial(resume, provenance=provenance, accept_changes=accept_changes),
                dataclasses.replace(read_fit(config), profile=profile, track=track),
            )

        # 3. R-CNN ends with SVMs on the features of the parameters that evaluation will use.
        if has_svm(config):
            with all_or_none("the fit of the SVMs", limit=LONG_LIMIT):
                if is_first and not (workdir / rcnn_svm.FILE).exists():
                    _fit_svm(config, workdir, metadata, source)

        # 4. The decoder takes the settings that are best on the validation split.
        if config.predict.fit and len(validation) >= decoder_fit.MIN_IMAGES:
            fit_run(config, workdir, validation)
    return result


def _fit_network(
    config: ConfigDict,
    workdir: Path,
    metadata: ModelMetadata,
    checkpoints: Checkpoints,
    splits: tuple[Source, Source],
    resume_run: Callable[[State, Checkpoints], Start],
    fit_config: FitConfig,
) -> Result:
    # 1. Network, loss, optimizer and the jit-compiled step; then the batches that the loss needs.
    source, validation = splits
    with all_or_none("the network and its batches"):
        setup = make_setup(config, metadata)
        check_use(config, setup.task)
        stream = make_stream(config, source, setup.task, make_proposer(config), part=batch_part(setup.mesh))

    def attempt(rollback: Rollback | None) -> Result:
        # 2. The run starts at the newest checkpoint; the folder has the new config if that fits.
        start = resume_run(make_first_state(config, metadata, setup), checkpoints).after(rollback)
        if jax.process_index() == 0:
            write_config(workdir, config)
        current = make_setup(with_lower_rate(config, start.rollbacks), metadata) if start.rollbacks else setup

        # 3. Validation uses the method that prediction will use.
        predictor = make_predictor(config, setup.task, start.state.eval_params)
        return fit(
            KeyedStep(current.step, jax.random.key(config.seed)),
            start,
            functools.partial(prefetch, stream, workers=config.data.workers),
            checkpoints,
            fit_config,
            folder=workdir,
            validate=Validation(predictor, validation, config.dataset.headline),
            image_names=stream.names,
        )

    # 4. A run that has diverged goes back to its last good checkpoint.
    return with_rollbacks(attempt, checkpoints, limit=fit_config.rollback)


def _check_processes(provenance: Provenance) -> None:
    """Checks that all processes train the same config on the same data."""
    config = {name: value for name, value in provenance.config.items() if name != "dataset.data_dir"}
    for name, content in (("config", config), ("data set", dict(provenance.data))):
        check_equal(json.dumps(content, sort_keys=True), name)


def fit_run(config: ConfigDict, workdir: Path, validation: Source, *, again: bool = False) -> DecoderFit:
    """Fits the decoder of a trained run, and stores the result in its folder; all processes call it.

    Args:
      config: config of the run.
      workdir: its folder.
      validation: the validation split.
      again: whether to replace an earlier fit for the same step, or one that is damaged.
    """
    with all_or_none("the network to fit"):
        opened = open_run(workdir, fitted=False)
        earlier = None if again else decoder_fit.load(workdir)
    check_equal(f"{opened.digest} {earlier}", "network")
    if earlier is not None and earlier.step == opened.step:
        return earlier
    with config_section("config.predict"):
        result = fit_decoder(
            cast(Predictor, opened.method), validation, step=opened.step or 0, fixed=config.predict.fixed
        )
    with all_or_none("the file of the decoder"):
        if jax.process_index() == 0:
            decoder_fit.save(result, workdir)
    return result


def _fit_svm(config: ConfigDict, workdir: Path, metadata: ModelMetadata, source: Source) -> None:
    task, params, step = restore_params(workdir, config, metadata)
    propose = make_proposer(config)
    if not isinstance(task, DetectionTask) or propose is None:
        raise InputError("config.task.classifier='svm' needs external proposals: choose softmax")
    roi_features = jax.jit(task.roi_features)
    images = rcnn_svm.describe_images(
        source,
        functools.partial(roi_features, params),
        propose=propose,
        max_proposals=read_proposals(config).max_proposals,
        **preprocessing_settings(config),
    )
    predictor = rcnn_svm.fit_predictor(images, num_classes=len(metadata.class_names), seed=config.seed)
    rcnn_svm.save(predictor, workdir, step)
