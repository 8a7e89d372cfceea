"""Scores the same label images with segjax and with every public evaluator that is installed: the judges.

Each judge gets the same label images. Scores are means over the images. If the score of a judge differs from
that of segjax, `GAPS` has the reason; a difference without a known reason is printed as NOT EXPLAINED.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence

import numpy as np

import segjax
from segjax.errors import InputError
from segjax.experiment.evaluation_folders import PredictionFolder, TruthFolder
from suites.public_evaluators import JUDGES

Pair = tuple[np.ndarray, np.ndarray]
# Differences up to this are rounding.
EQUAL = 5e-4
NAMES = (
    "AP 0.5",
    "AP 0.75",
    "F1",
    "PQ",
    "SQ",
    "AJI",
    "AJI+",
    "SEG",
    "COCO AP",
    "Dice",
    "HD95",
    "surface Dice",
)


TITLES = {"scipy": "HoVer-Net's, PanNuke's formulas"}
STRICT = "pairs need an IoU above 0.5, here at least 0.5: they differ if an IoU is 0.5 exactly"
# Why the scores of a judge may differ from those of segjax.
GAPS: dict[str, dict[str, str]] = {
    "cellpose": {"AJI": "divides by the union of the two foregrounds, which is not the AJI of Kumar et al."},
    "scipy": {"PQ": STRICT},
    "cellseg_metrics": {
        "AP 0.5": "is TP / (TP + FP), the precision",
        "AJI": "takes the prediction of the largest intersection, not of the highest IoU",
        "PQ": STRICT,
    },
    "torchmetrics": {"PQ": STRICT},
    "monai": {
        "PQ": STRICT,
        "HD95": "the edge of the image is a boundary",
        "surface Dice": "the edge of the image is a boundary",
    },
    "ctc_metrics": {
        "SEG": "a pair needs more than half of the true area, not an IoU of 0.5: pairs of low IoU count, too"
    },
    "medpy": {"HD95": "pools the distances of both directions, instead of the larger of two percentiles"},
    "surface_distance": {
        "HD95": "boundaries are lines between pixels, and the edge of the image is one",
        "surface Dice": "boundaries are lines between pixels, weighted by length; the edge is one",
    },
}


def main(truth: str | None, prediction: str | None) -> None:
    """Prints the table and the differences.

    Args:
      truth: folder or file of the truth, in any format.
      prediction: folder or file of the predictions. If both are None, the sample image of StarDist is scored,
        segmented by the network `nuclei`.
    """
    if (truth is None) != (prediction is None):
        raise InputError("give both --truth and --prediction, or neither")
    pairs = sample() if truth is None or prediction is None else read(truth, prediction)
    instances = sum(len(np.unique(labels)) - 1 for labels, _ in pairs)
    print(f"{len(pairs)} images, {instances} true instances\n")
    rows = judge_all(pairs)
    print("\n".join([*table(rows), "", *gaps(rows)]))


def sample() -> list[Pair]:
    """Returns the truth of StarDist's sample image, and the prediction of the network `nuclei`."""
    if importlib.util.find_spec("stardist") is None:
        raise InputError(
            "stardist is not installed: install the peers extra, or give --truth and --prediction"
        )
    from stardist.data import test_image_nuclei_2d

    image, truth = test_image_nuclei_2d(return_mask=True)
    return [(truth.astype(np.int32), segjax.load("nuclei")(image).labels)]


def read(truth: str, prediction: str) -> list[Pair]:
    """Returns the label images of two folders or files of any format."""
    source = TruthFolder(truth)
    predictions = PredictionFolder(prediction, source)
    predictions.use_classes(("background", "cell"))
    records = (source[index] for index in range(len(source)))
    return [(record.truth.labels, predictions.predict(record).labels) for record in records]


def judge_all(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Returns the mean scores over the images by the installed judges; NaN is left out."""
    rows: dict[str, dict[str, float]] = {}
    for name, judge in JUDGES.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        scores = [judge(*pair) for pair in pairs]
        rows[name] = {key: _mean([one[key] for one in scores]) for key in scores[0]}
    return rows


def table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the lines of the table in Markdown; `*` marks scores that differ from those of segjax."""
    lines = [f"| | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for judge, scores in rows.items():
        cells = [
            "" if name not in scores else f"{scores[name]:.3f}" + ("*" if _differs(rows, judge, name) else "")
            for name in NAMES
        ]
        lines.append(f"| {TITLES.get(judge, judge)} | {' | '.join(cells)} |")
    return lines


def gaps(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns a line for each score that differs from that of segjax, with the reason."""
    return [
        f"- {TITLES.get(judge, judge)}, {name}: {GAPS.get(judge, {}).get(name, 'NOT EXPLAINED')}"
        for judge, scores in rows.items()
        for name in scores
        if _differs(rows, judge, name)
    ]


def _differs(rows: Mapping[str, Mapping[str, float]], judge: str, name: str) -> bool:
    score, own = rows[judge][name], rows["segjax"][name]
    return not (math.isnan(score) and math.isnan(own)) and not math.isclose(score, own, abs_tol=EQUAL)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan
