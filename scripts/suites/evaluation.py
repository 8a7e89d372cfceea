"""Benchmark of the evaluation of label images: against stardist and loops, and on large images."""

import functools
import importlib.util
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from segjax.evaluation.evaluate import evaluate_labels
from segjax.experiment import environment
from segjax.metrics.instance import THRESHOLDS, InstanceStatistics
from segjax.segmentation import Segmentation
from suites.timing import measure

# Sides of the images, sides of the cells, and goals in seconds.
LARGE, LARGE_CELL, LARGE_GOAL = 4480, 28, 1.0
MILLION, MILLION_CELL, MILLION_GOAL = 8192, 8, 10.0


def main(*, count: int, rounds: int) -> None:
    """Times the instance metrics and prints the results."""
    where = environment.hardware_info()
    print(f"{where['device']}, {where['cores']} cores, Python {where['python']}")
    pairs = [label_images(512, 42, seed) for seed in range(count)]
    objects = np.mean([len(np.unique(truth)) - 1 for truth, _ in pairs])
    print(f"\n{count} images of 512 x 512, {objects:.0f} instances, ten thresholds (goal: ratio 20)")
    calls: dict[str, Callable[[], Any]] = {"segjax": lambda: [score(*pair) for pair in pairs]}
    if importlib.util.find_spec("stardist") is None:
        print("stardist is not installed (the peers extra): only the loops are timed")
    else:
        from stardist.matching import matching

        calls["stardist"] = lambda: [matching(*pair, thresh=THRESHOLDS) for pair in pairs]
    calls["loops"] = lambda: [hover_net_style(*pair) for pair in pairs]
    seconds = measure(calls, rounds)
    for name, value in seconds.items():
        print(f"{name:9} {1e3 * value / count:8.2f} ms an image")
    print(f"ratio     {(sum(seconds.values()) - seconds['segjax']) / seconds['segjax']:8.1f}")
    context = multiprocessing.get_context("spawn")
    for side, cell, goal in ((LARGE, LARGE_CELL, LARGE_GOAL), (MILLION, MILLION_CELL, MILLION_GOAL)):
        with context.Pool(1) as pool:
            one, all_scores, processor, peak = pool.apply(large, (side, cell, rounds))
        print(
            f"\n{side} x {side}, {(side // cell) ** 2} positions: instance metrics {one:.2f} s,"
            f" {processor:.2f} s of one core (goal {goal:g} s), peak {peak / 1e9:.2f} GB;"
            f" all scores from label images {all_scores:.2f} s"
        )


def score(truth: np.ndarray, prediction: np.ndarray) -> Any:
    """Returns all scores of instances and pixels of two label images."""
    return evaluate_labels(truth, prediction, details=None)


def label_images(side: int, cell: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two label images [side, side] of cells in a grid; some are missing, moved, or in two parts."""
    rng = np.random.default_rng(seed)
    cells = side // cell
    y, x = np.indices((cell, cell)) - (cell - 1) / 2
    inside = y**2 + x**2 < (0.47 * cell) ** 2
    planes = []
    for shift in (0, max(1, cell // 10)):
        ids = np.arange(1, cells**2 + 1, dtype=np.int32).reshape(cells, cells)
        ids[rng.random(ids.shape) < 0.1] = 0
        plane = np.zeros((side, side), np.int32)
        for row, line in enumerate(ids):
            band = plane[row * cell : (row + 1) * cell, : cells * cell]
            band[:] = np.repeat(line, cell) * np.tile(inside, cells)
            if shift and row % 10 == 0:  # the lower halves have ids of their own
                band[cell // 2 :][band[cell // 2 :] > 0] += cells**2
        planes.append(np.roll(plane, (shift, shift), axis=(0, 1)))
    return planes[0], planes[1]


def large(side: int, cell: int, rounds: int) -> tuple[float, float, float, float]:
    """Returns seconds of the instance metrics, of all scores, of the processor, and peak memory in bytes."""
    planes = list(label_images(side, cell, 0))
    pair = [Segmentation.from_labels(planes.pop(0)) for _ in range(2)]  # frees the label images
    seconds, processor = [], []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        InstanceStatistics.of(pair[0], pair[1]).compute()
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    every = measure({"all": functools.partial(score, *(one.labels for one in pair))}, 1)["all"]
    return float(np.median(seconds)), every, float(np.median(processor)), peak


def hover_net_style(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float, float]:
    """Returns PQ, AJI and AJI+ as HoVer-Net does: a mask for each instance, a new table for each score."""
    inter, union = tables(truth, prediction)
    iou = inter / np.maximum(union, 1)
    matched = iou[iou > 0.5]
    pq = 2 * matched.sum() / max(1, sum(iou.shape))
    inter, union = tables(truth, prediction)
    best = np.argmax(inter / np.maximum(union, 1), axis=1)
    rows = np.flatnonzero(inter.sum(axis=1) > 0)
    alone = alone_area(truth, rows) + alone_area(prediction, best[rows])
    aji = inter[rows, best[rows]].sum() / (union[rows, best[rows]].sum() + alone)
    inter, union = tables(truth, prediction)
    rows, columns = linear_sum_assignment(-inter / np.maximum(union, 1))
    rows, columns = rows[inter[rows, columns] > 0], columns[inter[rows, columns] > 0]
    alone = alone_area(truth, rows) + alone_area(prediction, columns)
    aji_plus = inter[rows, columns].sum() / (union[rows, columns].sum() + alone)
    return float(pq), float(aji), float(aji_plus)


def alone_area(labels: np.ndarray, paired: np.ndarray) -> int:
    """Returns the area of the instances without a partner; `paired` has the indices of those with one."""
    ids = np.delete(np.unique(labels)[1:], np.unique(paired))
    return sum(int((labels == index).sum()) for index in ids)


def tables(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns intersections and unions [N, M] of all pairs of instances that overlap."""
    ids, other_ids = np.unique(truth)[1:], np.unique(prediction)[1:]
    masks = {index: prediction == index for index in other_ids}
    position = {index: column for column, index in enumerate(other_ids)}
    inter, union = np.zeros((2, len(ids), len(other_ids)))
    for row, index in enumerate(ids):
        mask = truth == index
        for other in np.unique(prediction[mask]):
            if other:
                common = int((mask & masks[other]).sum())
                inter[row, position[other]] = common
                union[row, position[other]] = int(mask.sum() + masks[other].sum()) - common
    return inter, union
