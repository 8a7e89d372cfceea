"""Trains a config in a folder."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from segjax.data.records import Source
from segjax.data.stream import prefetch
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate
from segjax.experiment.build import (
    has_svm,
    make_first_state,
    make_predictor,
    make_proposer,
    make_setup,
    make_stream,
    open_split,
    preparation,
    restore,
)
from segjax.experiment.leaks import check_leaks, split_facts
from segjax.experiment.workdir import ModelMetadata, bind_config, write_metadata
from segjax.tasks import rcnn_svm
from segjax.train.checkpoint import Checkpoints
from segjax.train.loop import Result, fit
from segjax.typing import Params


def train(config: ConfigDict, workdir: Path) -> Result:
    """Trains a config in a folder, going on where an earlier run of the same command stopped."""
    bind_config(workdir, config)
    source, validation = open_split(config, "train"), open_split(config, "validation")
    check_leaks(config)
    stream = make_stream(config, source)
    description = ModelMetadata(tuple(source.class_names), stream.channels)
    write_metadata(workdir, description)
    learning = make_setup(config, description)
    state = make_first_state(config, description, learning)
    predictor = make_predictor(config, learning.task, state.eval_params)

    def validate(params: Params) -> dict[str, Any]:
        predictor.params = params
        headline = config.dataset.headline
        found = evaluate(predictor, validation, source.class_names, headline=headline).metrics
        foreground = [found["iou"][name] or 0.0 for name in source.class_names[1:]]
        score = float(np.mean(foreground)) + (found["ap"]["0.5"] or 0.0)
        return {"score": score} | {name: found[name] for name in ("iou", "ap", "pq", "aji")}

    with Checkpoints(workdir / "checkpoints") as checkpoints:
        result = fit(
            learning.step,
            state,
            functools.partial(prefetch, stream, workers=config.data.workers),
            checkpoints,
            steps=config.steps,
            key=jax.random.key(config.seed),
            mesh=learning.mesh,
            folder=workdir,
            validate=validate,
            validate_every=config.train.validate_every,
            checkpoint_every=config.train.checkpoint_every,
            log_every=config.train.log_every,
            patience=config.train.patience,
            max_consecutive_skips=config.train.max_consecutive_skips,
            facts=split_facts(source),
        )
    if has_svm(config) and jax.process_index() == 0 and not (workdir / rcnn_svm.FILE).exists():
        _fit_svm(config, workdir, description, source)
    return result


def _fit_svm(config: ConfigDict, workdir: Path, description: ModelMetadata, source: Source) -> None:
    """R-CNN's last stage, on the features of the parameters that will be evaluated."""
    learning, params, step = restore(workdir, config, description)
    if learning.task.describe is None:
        raise InputError("config.task.classifier='svm' needs boxes to classify: choose softmax")
    describe = jax.jit(learning.task.describe)
    described = rcnn_svm.describe_images(
        source,
        functools.partial(describe, params),
        propose=make_proposer(config),
        max_proposals=config.proposals.max_proposals,
        **preparation(config),
    )
    predictor = rcnn_svm.fit_predictor(described, num_classes=len(description.class_names), seed=config.seed)
    rcnn_svm.save(predictor, workdir, step)
