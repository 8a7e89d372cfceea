"""Searches the best settings field by field, which is far less than a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segjax.ablation.ablate import AblationRequest, failures_of
from segjax.ablation.measure import Measure, measure
from segjax.ablation.points import CONFIG, NAME, SEED, describe
from segjax.ablation.runs import RESULT, SweepFolder, read_entry, run_points
from segjax.ablation.sweeps import Overrides
from segjax.errors import InputError
from segjax.evaluation.statistics import pooled
from segjax.experiment.results_folder import join_first
from segjax.report.table import format_score


def search(request: AblationRequest, measure: Measure = measure) -> str:
    """Tries the fields of a sweep one after the other; each gets its value with the best score.

    For each config of the sweep, fields that all points have begin with their first value, the others with
    that of the config. Every trial is a point, so that an interrupted search resumes. Seeds are averaged.

    Args:
      request: what to search; `evaluating` must not be the test split.
      measure: measures a point.

    Returns:
      The best settings of each config, and the scores before and after the search.

    Raises:
      InputError: as `ablate`, and if a point fails.
    """
    if request.evaluating.split == "test":
        raise InputError("--search chooses settings: give --split=train or --split=validation, not test")
    if request.halving is not None:
        raise InputError("--search needs the scores of all its trials: leave out --halving")
    overrides, _ = request.load()
    request.expand(overrides)  # an invalid value is noticed before the first trial
    sweep = request.open()
    by_config: dict[Any, list[Overrides]] = {}
    for point in overrides:
        by_config.setdefault(point.get(CONFIG), []).append(point)
    lines = [_search(request, sweep, measure, points) for points in by_config.values()]
    return "\n".join([*lines, "", f"all trials: {request.workdir / 'points'}"])


def _search(
    request: AblationRequest, sweep: SweepFolder, measure: Measure, points: Sequence[Overrides]
) -> str:
    """Searches the settings of one config; returns them as text."""
    fields = dict.fromkeys(field for point in points for field in point)
    # By their text, because a value may be a section.
    values = {
        field: [*{repr(point[field]): point[field] for point in points if field in point}.values()]
        for field in fields
    }
    seeds = [{SEED: seed} for seed in values.pop(SEED, [])] or [{}]

    start = {field: tried[0] for field, tried in values.items() if all(field in point for point in points)}

    def changes(settings: Overrides) -> str:
        return describe({field: value for field, value in settings.items() if start.get(field) != value})

    def score(settings: Overrides) -> float:
        name = changes(settings) or "start"
        trials = request.expand({**settings, **seed, NAME: name} for seed in seeds)
        run_points(trials, sweep, measure, request.evaluating, retry=request.retry)
        if failures := failures_of(trials, sweep):
            raise InputError(
                f"the search stopped ({join_first(failures)}): correct the cause and pass --retry"
            )
        return float(np.mean([_read_score(sweep, trial, request.score) for trial in trials]))

    best, first = start, score(start)
    top = first
    for field, tried in values.items():
        for value in tried:
            settings = {**best, field: value}
            if (result := score(settings)) > top:
                top, best = result, settings
    name = describe({CONFIG: best[CONFIG]}) if CONFIG in best else "config"
    return (
        f"{name}: {request.score} {format_score(first)} -> {format_score(top)} with"
        f" {changes(best) or 'no change'}"
    )


def _read_score(sweep: SweepFolder, trial: Any, name: str) -> float:
    """Returns a score of a finished point; one that is undefined counts as the worst."""
    result = read_entry(sweep.folder(trial) / RESULT)
    if result is None:
        raise InputError(
            f"another process is running {describe(trial.overrides)}: wait until it has finished"
        )
    return float(
        np.nan_to_num(pooled(np.array([image[name] for image in result["ratios"].values()])), nan=-1.0)
    )
