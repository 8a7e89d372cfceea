"""One prediction, many judges: the same label images scored by segjax and by every evaluator installed.

Each judge gets the label images as they are. Scores are means over the images. Where a judge says something
else than segjax, `GAPS` explains why; a gap without an explanation is printed as such.
"""

import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

import segjax
from segjax.errors import InputError
from segjax.evaluation.evaluate import evaluate_labels
from segjax.experiment.evaluation_folders import PredictionFolder, TruthFolder
from segjax.metrics.options import InstanceOptions
from segjax.segmentation import Segmentation
from suites.evaluation import hover_net_style

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


def segjax_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Returns what segjax says, in its default sense."""
    scores = evaluate_labels(truth, _scored(prediction), options=InstanceOptions())
    surface = scores.details["surface"]["class 1"]
    return {
        "AP 0.5": scores.ap[0.5],
        "AP 0.75": scores.ap[0.75],
        "F1": scores.f1,
        "PQ": scores.pq,
        "SQ": scores.sq,
        "AJI": scores.aji,
        "AJI+": scores.aji_plus,
        "SEG": scores.mean_true_score,
        "COCO AP": scores.details["coco"]["mask"]["mean"].ap,
        "Dice": scores.dice["class 1"],
        "HD95": surface.hausdorff_95,
        "surface Dice": surface.surface_dice,
    }


def stardist(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`stardist.matching`."""
    from stardist.matching import matching

    one, other = matching(truth, prediction, thresh=[0.5, 0.75])
    return {
        "AP 0.5": one.accuracy,
        "AP 0.75": other.accuracy,
        "F1": one.f1,
        "PQ": one.panoptic_quality,
        "SQ": one.mean_matched_score,
        "SEG": one.mean_true_score,
    }


def cellpose(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`cellpose.metrics`."""
    from cellpose import metrics

    with np.errstate(invalid="ignore"):  # 0 / 0 of the background
        ap = metrics.average_precision([truth], [prediction], threshold=[0.5, 0.75])[0][0]
        aji = metrics.aggregated_jaccard_index([truth], [prediction])[0]
    return {"AP 0.5": ap[0], "AP 0.75": ap[1], "AJI": aji}


def hover_net(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """The formulas of HoVer-Net's `get_fast_pq`, `_aji`, `_aji_plus`; PanNuke's bPQ is this PQ."""
    pq, aji, aji_plus = hover_net_style(truth, prediction)
    return {"PQ": pq, "AJI": aji, "AJI+": aji_plus}


def cellseg_metrics(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`cellseg_metrics` of PyPI."""
    import cellseg_metrics as judge

    quality = judge.panoptic_quality(truth, prediction)
    return {
        "AP 0.5": judge.average_precision(truth, prediction),
        "F1": quality["dq"],
        "PQ": quality["pq"],
        "SQ": quality["sq"],
        "AJI": judge.aggregated_jaccard_index(truth, prediction),
    }


def panoptica(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`panoptica`, with instances matched at IoU 0.5."""
    from panoptica import InputType, NaiveThresholdMatching, Panoptica_Evaluator

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.UNMATCHED_INSTANCE, instance_matcher=NaiveThresholdMatching()
    )
    found = evaluator.evaluate(prediction.astype(np.uint32), truth.astype(np.uint32), verbose=False)
    result = next(iter(found.values()))
    return {"F1": result.rq, "PQ": result.pq, "SQ": result.sq, "Dice": float(result.global_bin_dsc)}


def torchmetrics(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`torchmetrics.detection.PanopticQuality` of the class of the instances."""
    import torch
    from torchmetrics.detection import PanopticQuality

    metric = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    sides = [
        torch.from_numpy(np.stack([side > 0, side], -1).astype(np.int64)) for side in (prediction, truth)
    ]
    pq, sq, rq = metric(sides[0][None], sides[1][None])[0].tolist()
    return {"PQ": pq, "SQ": sq, "F1": rq}


def monai(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`monai.metrics`."""
    import torch
    from monai import metrics

    predicted, true = (torch.from_numpy(side.astype(np.int64)) for side in (prediction, truth))
    planes = [(side > 0).float()[None, None] for side in (predicted, true)]
    quality = {
        name: float(metrics.compute_panoptic_quality(predicted, true, metric_name=key))
        for name, key in (("PQ", "pq"), ("SQ", "sq"), ("F1", "rq"))
    }
    distance = metrics.compute_hausdorff_distance(*planes, include_background=True, percentile=95)
    surface = metrics.compute_surface_dice(*planes, class_thresholds=[2.0], include_background=True)
    dice = metrics.compute_dice(*planes, include_background=True)
    return quality | {"HD95": float(distance), "surface Dice": float(surface), "Dice": float(dice)}


def ctc_metrics(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """SEG of the Cell Tracking Challenge, by `py-ctcmetrics`."""
    import tifffile
    from ctc_metrics.metrics.technical.seg import seg
    from ctc_metrics.utils.representations import match

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("truth.tif", "prediction.tif")]
        for path, labels in zip(paths, (truth, prediction), strict=True):
            tifffile.imwrite(path, labels)
        labels_ref, _, _, _, ious = match(*map(str, paths))
    return {"SEG": seg([labels_ref], [ious])}


def pycocotools(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """COCO's mask AP, by `pycocotools`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _coco(COCO, COCOeval, truth, prediction)


def faster_coco_eval(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """COCO's mask AP, by `faster_coco_eval`."""
    from faster_coco_eval import COCO, COCOeval_faster

    return _coco(COCO, COCOeval_faster, truth, prediction)


def medpy(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`medpy.metric.binary`."""
    from medpy.metric import binary

    sides = prediction > 0, truth > 0
    return {"HD95": float(binary.hd95(*sides)), "Dice": float(binary.dc(*sides))}


def surface_distance(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """DeepMind's `surface_distance`."""
    import surface_distance as judge

    found = judge.compute_surface_distances(truth > 0, prediction > 0, (1.0, 1.0))
    return {
        "HD95": float(judge.compute_robust_hausdorff(found, 95)),
        "surface Dice": float(judge.compute_surface_dice_at_tolerance(found, 2.0)),
        "Dice": float(judge.compute_dice_coefficient(truth > 0, prediction > 0)),
    }


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]
# The judges by the module that each needs.
JUDGES: dict[str, Judge] = {
    "segjax": segjax_scores,
    "stardist": stardist,
    "cellpose": cellpose,
    "scipy": hover_net,
    "cellseg_metrics": cellseg_metrics,
    "panoptica": panoptica,
    "torchmetrics": torchmetrics,
    "monai": monai,
    "ctc_metrics": ctc_metrics,
    "pycocotools": pycocotools,
    "faster_coco_eval": faster_coco_eval,
    "medpy": medpy,
    "surface_distance": surface_distance,
}
TITLES = {"scipy": "HoVer-Net's, PanNuke's formulas"}
STRICT = "pairs need an IoU above 0.5, here at least 0.5: they differ if an IoU is 0.5 exactly"
# Why a judge may say something else than segjax.
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
    """Prints the table and the gaps.

    Args:
      truth: folder or file of the truth, in any format; None for the sample image of StarDist.
      prediction: that of the predictions; None, with `truth`, for the network `nuclei`.
    """
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
    """Returns the lines of the table in Markdown; `*` marks what differs from segjax."""
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
    return not math.isclose(rows[judge][name], rows["segjax"][name], abs_tol=EQUAL)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _scored(labels: np.ndarray) -> Segmentation:
    """Returns a prediction with scores, which label images do not have: they rise with the area."""
    areas = np.unique(labels[labels > 0], return_counts=True)[1]
    return Segmentation.from_labels(labels, scores=areas / (areas.max(initial=0) + 1))


def _coco(coco: Any, evaluation: Any, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Returns COCO's mask AP, with up to 2000 predictions, by an API like that of pycocotools."""
    sides = []
    for segmentation in (Segmentation.from_labels(truth), _scored(prediction)):
        entries = []
        for index, score in enumerate(segmentation.scores.tolist(), start=1):
            mask = np.asfortranarray(segmentation.labels == index)
            runs = coco_mask.encode(mask.astype(np.uint8))
            area, box = int(mask.sum()), coco_mask.toBbox(runs).tolist()
            common = {"id": index, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "bbox": box}
            entries.append(common | {"segmentation": runs, "score": score})
        sides.append(entries)
    data = coco()
    height, width = truth.shape
    data.dataset = {
        "info": {},
        "images": [{"id": 1, "height": height, "width": width}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": sides[0],
    }
    data.createIndex()
    judge = evaluation(data, data.loadRes(sides[1]), "segm")
    judge.params.maxDets = [1, 10, 2000]
    judge.evaluate()
    judge.accumulate()
    # The summary uses maxDets 100.
    precision = judge.eval["precision"][:, :, :, 0, -1]
    return {"COCO AP": float(precision[precision > -1].mean())}
