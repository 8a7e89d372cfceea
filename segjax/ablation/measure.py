"""Measures one point of a sweep: trains it if it has weights, and evaluates it."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from segjax.ablation.extras import CEILING, ceiling
from segjax.ablation.pictures import draw_example
from segjax.ablation.points import Point
from segjax.data.records import Source
from segjax.data.subset import evenly, groups_of
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate
from segjax.evaluation.uncertainty import image_ratios
from segjax.experiment import environment
from segjax.experiment.classification import make_classifying
from segjax.experiment.evaluation_extras import count_proposals
from segjax.experiment.methods import OpenedMethod, open_run
from segjax.experiment.setup import make_task, open_split, param_shapes, read_run
from segjax.experiment.training import train
from segjax.inference.predictor import Detector
from segjax.segmentation import Segmentation
from segjax.train.log import read_log
from segjax.train.processes import spread

# Scores of all data sets, by their names in `OVERALL`.
SCORES = ("IoU", "Dice", "AP 0.5", "AP 0.75", "F1", "PQ", "AJI")
LOG = "log.jsonl"
# Linux: a peak of resident memory that can be reset.
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Evaluating(NamedTuple):
    """What is evaluated.

    Attributes:
      split: "train", "validation" or "test".
      images: maximum number of images; None for all.
    """

    split: str = "test"
    images: int | None = None


def measure(point: Point, folder: Path, evaluating: Evaluating) -> dict[str, Any]:
    """Trains a point, if it has weights, and evaluates it; an interrupted training resumes.

    Args:
      point: the point.
      folder: its folder, that of the run.
      evaluating: the images.

    Returns:
      The result for JSON: `ratios`, numerator and denominator of every score for every image, by name;
      `groups`, the group of every image; and what it cost.
    """
    config = point.config
    memory = PeakMemory()
    started = time.monotonic()
    cost: dict[str, Any] = {}
    if not point.is_classical:
        cost["train_seconds"] = train(config, folder).seconds
        cost |= network_cost(folder)
    opened, source = open_point(point, folder, evaluating)
    prepared = time.monotonic() - started
    result, counts = score(opened, source, config.dataset.headline)
    for image, ratio in (ceiling(opened, source, config.dataset.headline) or {}).items():
        result["ratios"][image][CEILING] = ratio
    draw_example(opened.__call__, source, counts, folder)
    return {
        **result,
        # A training may be the work of several starts.
        "seconds": max(prepared, cost.get("train_seconds", 0.0)) + time.monotonic() - started - prepared,
        "peak_bytes": memory.bytes(),
        **cost,
        "environment": environment.hardware_info(),
    }


def advance(point: Point, folder: Path, step: int) -> float | None:
    """Trains a point up to a step before its last one, where it pauses; `measure` goes on from there.

    Args:
      point: the point.
      folder: its folder, that of the run.
      step: a step that is validated.

    Returns:
      The best validation score until then; None if the training has ended before, by its patience.

    Raises:
      InputError: if the log has no validation.
    """
    free_memory()
    if not train(point.config, folder, pause=step).paused:
        return None
    best = best_score(folder, step)
    if best is None:
        raise InputError(
            f"{folder / LOG} has no validation up to step {step}: delete this folder to train again"
        )
    return best


def best_score(folder: Path, step: int) -> float | None:
    """Returns the best validation score in the log of a run up to a step; None if there is none."""
    entries = [line for line in read_log(folder / LOG) if "validation/score" in line]
    # The score of a network is at least 0.
    return max((line["validation/score"] or 0.0 for line in entries if line["step"] <= step), default=None)


def open_point(point: Point, folder: Path, evaluating: Evaluating) -> tuple[OpenedMethod, Source]:
    """Opens the method of a point, which is trained if it has weights, and the images that are evaluated."""
    source = open_images(point.config, evaluating)
    if not point.is_classical:
        return open_run(folder), source
    (name,) = point.config.methods
    return OpenedMethod(make_classifying(name, point.config, source.class_names, folder)), source


def open_images(config: ConfigDict, evaluating: Evaluating) -> Source:
    """Opens the images that are evaluated."""
    source = open_split(config, evaluating.split)
    return source if evaluating.images is None else evenly(source, evaluating.images)


def score(opened: OpenedMethod, source: Source, headline: str | None) -> tuple[dict[str, Any], list[int]]:
    """Scores every image.

    Args:
      opened: segments the images.
      source: the images.
      headline: the class that the scores without a class refer to; the first foreground class if None.

    Returns:
      The ratios of the scores of every image, its group, and seconds for the median image; and the number of
      true instances of every image.
    """
    seconds = []

    def timed(image: np.ndarray) -> Segmentation:
        started = time.monotonic()
        prediction = opened(image)
        seconds.append(time.monotonic() - started)
        return prediction

    spread_images = functools.partial(spread, purpose="evaluate")
    evaluation = evaluate(timed, source, headline=headline, spread=spread_images)
    ratios = {name: image_ratios(scores.statistics) for name, scores in evaluation.per_image.items()}
    if isinstance(opened.method, Detector):
        for name, proposals in zip(ratios, count_proposals(opened, source), strict=True):
            ratios[name]["recall of proposals"] = proposals.recalled, proposals.objects
    result = {
        "ratios": ratios,
        "groups": dict(zip(ratios, groups_of(source), strict=True)),
        # The first image includes compilation.
        "seconds_per_image": float(np.median(seconds)),
    }
    return result, [image.all.num_true for image in evaluation.scores.statistics.images]


def network_cost(folder: Path) -> dict[str, Any]:
    """Returns parameters, and the operations and memory of the training step of a run."""
    config, metadata = read_run(folder)
    shapes = param_shapes(config, make_task(config, metadata), metadata)
    entries = [line["compiled"] for line in read_log(folder / LOG) if "compiled" in line]
    compiled = entries[-1] if entries else {}
    memory = [compiled[name] for name in ("argument_bytes", "temporary_bytes") if name in compiled]
    return {
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)),
        # Forward and backward pass, of one image.
        "flops": compiled["flops"] / config.batch_size if "flops" in compiled else None,
        "step_bytes": sum(memory) if memory else None,
    }


def free_memory() -> None:
    """Frees what earlier points left behind."""
    jax.clear_caches()
    gc.collect()
    # Returns memory that is free but held by the allocator to the system.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class PeakMemory:
    """The peak of the resident memory of this process above that of the start.

    What earlier points left behind does not count. Where a peak cannot be reset, outside Linux, it is that of
    the process since its start.
    """

    def __init__(self) -> None:
        free_memory()
        self._start = 0
        try:
            CLEAR.write_text("5")
            self._start = _status("VmRSS")
        except OSError:
            return

    def bytes(self) -> int:
        """Returns the peak until now."""
        if self._start:
            return _status("VmHWM") - self._start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int:
    """Returns a number of bytes in /proc/self/status."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


Measure = Callable[[Point, Path, Evaluating], dict[str, Any]]
Advance = Callable[[Point, Path, int], float | None]
