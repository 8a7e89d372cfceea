"""Trains a config in a folder."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from segjax.data.prefetch import prefetch
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate
from segjax.experiment import decoder_fit
from segjax.experiment.decoder_fit import DecoderFit, fit_decoder
from segjax.experiment.leaks import check_leaks, split_facts
from segjax.experiment.methods import (
    has_svm,
    make_predictor,
    make_proposer,
    open_run,
    read_predict_config,
)
from segjax.experiment.setup import (
    config_section,
    make_first_state,
    make_setup,
    make_stream,
    open_split,
    preprocessing_settings,
    read_section,
    restore_params,
)
from segjax.experiment.workdir import ModelMetadata, bind_config, write_metadata
from segjax.inference.predictor import Predictor
from segjax.metrics.scores import Scores
from segjax.tasks import rcnn_svm
from segjax.tasks.detection import DetectionTask
from segjax.train.checkpoint import Checkpoints
from segjax.train.loop import FitConfig, Result, fit
from segjax.typing import Batch, Params


def train(config: ConfigDict, workdir: Path) -> Result:
    """Trains a config in a folder, resuming where an earlier run of the same command stopped."""
    # 1. The folder belongs to this config, which can be used for prediction; the splits do not leak.
    read_predict_config(config)
    bind_config(workdir, config)
    source, validation = open_split(config, "train"), open_split(config, "validation")
    check_leaks(config)
    metadata = ModelMetadata(tuple(source.class_names), source[0].image.shape[-1])
    write_metadata(workdir, metadata)

    # 2. Network, loss, optimizer and the jit-compiled step; then the batches that the loss needs.
    setup = make_setup(config, metadata)
    stream = make_stream(config, source, setup.task, make_proposer(config))
    state = make_first_state(config, metadata, setup)

    # 3. Validation uses the method that prediction will use.
    predictor = make_predictor(config, setup.task, state.eval_params)

    def validate(params: Params) -> dict[str, Any]:
        predictor.params = params
        return validation_metrics(evaluate(predictor, validation, headline=config.dataset.headline).scores)

    # 4. The loop resumes from the newest checkpoint.
    key = jax.random.key(config.seed)

    def step(state: Any, batch: Batch) -> Any:
        return setup.step(state, batch, key)

    not_for_fit = ("ema_decay", "num_microbatches")
    section = {name: value for name, value in config.train.items() if name not in not_for_fit}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        result = fit(
            step,
            state,
            functools.partial(prefetch, stream, workers=config.data.workers),
            checkpoints,
            read_section(FitConfig, section, "config.train", steps=config.steps),
            folder=workdir,
            validate=validate,
            run_metadata=split_facts(source),
        )

    # 5. R-CNN ends with SVMs on the features of the parameters that evaluation will use.
    if has_svm(config) and jax.process_index() == 0 and not (workdir / rcnn_svm.FILE).exists():
        _fit_svm(config, workdir, metadata, source)

    # 6. The decoder takes the settings that are best on the validation split.
    if config.predict.fit and jax.process_index() == 0 and not (workdir / decoder_fit.FILE).exists():
        fit_run(config, workdir, validation)
    return result


def fit_run(config: ConfigDict, workdir: Path, validation: Source) -> DecoderFit:
    """Fits the decoder of a trained run, and stores the result in its folder."""
    opened = open_run(workdir, fitted=False)
    with config_section("config.predict"):
        result = fit_decoder(
            cast(Predictor, opened.method), validation, step=opened.step or 0, fixed=config.predict.fixed
        )
    decoder_fit.save(result, workdir)
    return result


def validation_metrics(scores: Scores) -> dict[str, Any]:
    """Returns the logged metrics, and the "score" that selects the best checkpoint.

    The score is the mean IoU of the foreground classes plus AP at 0.5; an undefined value counts as 0.
    """
    metrics = scores.as_dict()
    foreground = [metrics["iou"][name] or 0.0 for name in scores.per_class]
    score = float(np.mean(foreground)) + (metrics["ap"]["0.5"] or 0.0)
    return {"score": score, **{name: metrics[name] for name in ("iou", "ap", "pq", "aji")}}


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
        max_proposals=config.proposals.max_proposals,
        **preprocessing_settings(config),
    )
    predictor = rcnn_svm.fit_predictor(images, num_classes=len(metadata.class_names), seed=config.seed)
    rcnn_svm.save(predictor, workdir, step)
