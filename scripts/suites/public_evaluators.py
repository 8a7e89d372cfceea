"""Public evaluators of label images, each as a function `(truth, prediction) -> scores by name`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segjax.evaluation.evaluate import evaluate_labels
from segjax.segmentation import Segmentation
from suites.evaluation import hover_net_style


def segjax_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """The scores of segjax, with its default options."""
    scores = evaluate_labels(truth, _scored(prediction))
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
    by_group = evaluator.evaluate(prediction.astype(np.uint32), truth.astype(np.uint32), verbose=False)
    result = next(iter(by_group.values()))
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

    distances = judge.compute_surface_distances(truth > 0, prediction > 0, (1.0, 1.0))
    return {
        "HD95": float(judge.compute_robust_hausdorff(distances, 95)),
        "surface Dice": float(judge.compute_surface_dice_at_tolerance(distances, 2.0)),
        "Dice": float(judge.compute_dice_coefficient(truth > 0, prediction > 0)),
    }


def _scored(labels: np.ndarray) -> Segmentation:
    """Returns a prediction with scores that rise with the area, because label images have none."""
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


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]
# The judges by the name of the module that each needs.
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
