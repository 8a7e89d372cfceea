"""Lists the points of a sweep with their states, and estimates how long those that are left take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import jax
import numpy as np

from segjax.ablation.ablate import AblationRequest
from segjax.ablation.halving import Halving
from segjax.ablation.measure import Evaluating, open_images
from segjax.ablation.points import Point
from segjax.ablation.runs import RESULT, SweepFolder, read_entry, state_of
from segjax.data.prefetch import prefetch
from segjax.experiment.methods import make_classical, make_proposer
from segjax.experiment.setup import make_first_state, make_setup, make_stream, open_split
from segjax.experiment.workdir import ModelMetadata
from segjax.train.sharding import batch_sharding


def list_points(request: AblationRequest, *, timed: int = 0) -> str:
    """Returns the points of a sweep, or of its shard, with their states; nothing is written.

    Args:
      request: the sweep.
      timed: number of training steps, or of images for methods without weights, that are timed for each
        point that is left, once for all seeds; 0 for an estimate from the points that are done.
    """
    points = request.expand(request.load()[0])
    sweep, plan, chosen = SweepFolder(request.workdir), request.plan(points), request.chosen(points)
    points = [point for point in points if point in chosen]
    lines = []
    done: list[tuple[Point, float]] = []
    left: list[Point] = []
    known: dict[str, float] = {}
    for point in points:
        folder = sweep.folder(point)
        result, state, duration = read_entry(folder / RESULT), state_of(folder), ""
        if result is not None:
            done.append((point, float(result["seconds"])))
        elif state != "stopped":
            left.append(point)
            if timed:
                if point.row not in known:
                    known[point.row] = estimate(point, request.evaluating, timed)
                duration = f"{_minutes(known[point.row]):>14}  "
        lines.append(f"{state:12}{duration}{point.name}")
    summary = f"{len(points)} points, {len(left)} left"
    if timed and left:
        total = sum(known[point.row] for point in left)
        summary += f": about {_minutes(total)}, without the evaluation of networks"
    else:
        summary += _from_done(left, done)
    if isinstance(plan, Halving):
        lines.append(plan.describe())
        summary += ", unless halving stops more of them"
    return "\n".join([*lines, summary])


def _from_done(left: Sequence[Point], done: Sequence[tuple[Point, float]]) -> str:
    """Returns how long points take, judging by those of their row that are done, or else of their kind."""
    known = []
    for point in left:
        same_row = [seconds for other, seconds in done if other.row == point.row]
        same_kind = [seconds for other, seconds in done if other.is_classical == point.is_classical]
        if same_kind:
            known.append(float(np.mean(same_row or same_kind)))
    if not known:
        return ""
    count = f" for {len(known)} of them" if len(known) < len(left) else ""
    return f": about {_minutes(sum(known))}{count}, judging by the points that are done"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes"


def estimate(point: Point, evaluating: Evaluating, timed: int) -> float:
    """Returns the seconds of a point: its training, or its evaluation if it has no weights.

    Args:
      point: the point.
      evaluating: the images that are evaluated.
      timed: number of steps or images that are timed, after a first one that is not.
    """
    config = point.config
    if point.is_classical:
        source = open_images(config, evaluating)
        (name,) = config.methods
        method = make_classical(config, name)
        seconds = []
        for index in range(min(timed + 1, len(source))):
            image = source[index].image
            started = time.monotonic()
            method(image)
            seconds.append(time.monotonic() - started)
        return float(np.median(seconds[1:] or seconds)) * len(source)
    train = open_split(config, "train")
    metadata = ModelMetadata(tuple(train.class_names), train[0].image.shape[-1])
    setup = make_setup(config, metadata)
    stream = make_stream(config, train, setup.task, make_proposer(config))
    state = make_first_state(config, metadata, setup)
    key, sharding = jax.random.key(config.seed), batch_sharding(setup.mesh)
    seconds = []
    with prefetch(stream, workers=config.data.workers) as batches:
        for _, batch in itertools.islice(batches, timed + 1):
            started = time.monotonic()
            state, _ = setup.step(state, jax.device_put(batch, sharding), key)
            jax.block_until_ready(state)
            seconds.append(time.monotonic() - started)
    return float(np.median(seconds[1:])) * int(config.steps)
