"""The last stage of R-CNN: one linear SVM per class and a ridge regression of the boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from segjax.data.preprocess import preprocess_example
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.files import atomic_write
from segjax.models.weights.file import write_tensors
from segjax.ops import boxes as box_ops
from segjax.ops.detection import HEAD_WEIGHTS
from segjax.tasks import host_boxes
from segjax.tasks.detection import DetectionTask
from segjax.typing import IGNORE, Array, Params

FILE = "svm.safetensors"
# Values of Girshick et al., appendices B and C: regularisation, weights of the bias and of positives, mean
# norm of the features, IoU of negatives and of boxes for the regression, strength of the ridge.
COST, BIAS_SCALE, POSITIVE_WEIGHT = 1e-3, 10.0, 2.0
FEATURE_NORM = 20.0
NEGATIVE_BELOW, REGRESSED_ABOVE = 0.3, 0.6
RIDGE = 1000.0
# Negatives per image for the first SVM. The second SVM also gets the hard negatives: those with a margin
# above `HARD` in the first.
FIRST_NEGATIVES = 50
HARD = -1.0
# Number of boxes whose features are computed at once.
CHUNK = 32

# `images [1, H, W, C] -> feature maps`
Encode = Callable[[Array], Any]
# `(images or feature maps, boxes [1, T, 4]) -> features [1, T, D]`
RoIFeatures = Callable[[Any, Array], jax.Array]


class SVMTask(DetectionTask):
    """R-CNN whose logits are the margins of one SVM per class."""

    def probabilities(self, logits: Array) -> Array:
        """Returns the logistic function of the margins [..., K]."""
        return jax.nn.sigmoid(logits)


class ImageBoxes(NamedTuple):
    """Boxes of one image with their features and overlaps, P objects and proposals.

    Attributes:
      features: [P, D] float32.
      boxes: [P, 4] float32, pixels of the network's input.
      target: [P, 4] float32, box of the object with the highest IoU.
      iou: [P] float32, IoU with that object.
      classes: [P] int, class of that object.
      overlap: [P, K] float32, highest IoU with an object of each class.
    """

    features: np.ndarray
    boxes: np.ndarray
    target: np.ndarray
    iou: np.ndarray
    classes: np.ndarray
    overlap: np.ndarray


def fit_predictor(
    images: Iterable[ImageBoxes], *, num_classes: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Fits parameters that replace those of a `BoxPredictor`.

    Args:
      images: from `describe_images`; all features are held in memory.
      num_classes: K, background included.
      seed: random seed of the choice of the first negatives.

    Returns:
      "logits" and "deltas", each with "kernel" and "bias". The logits are the margins of the SVMs; that of
      the background is 0.

    Raises:
      InputError: if no image has an object.

    References:
      Girshick et al., https://arxiv.org/abs/1311.2524.
    """
    images = list(images)
    if not any((image.iou >= 1).any() for image in images):
        raise InputError("no image has an object to fit SVMs to: give another split or data set")
    scale = FEATURE_NORM / np.mean([np.linalg.norm(image.features, axis=1).mean() for image in images])
    depth = images[0].features.shape[1]
    logits = np.zeros((depth, num_classes)), np.zeros(num_classes)
    deltas = np.zeros((depth, num_classes, 4)), np.zeros((num_classes, 4))
    for index in range(1, num_classes):
        positive = np.concatenate([i.features[(i.iou >= 1) & (i.classes == index)] for i in images])
        if not len(positive):
            logits[1][index] = -np.inf
            continue
        negatives = [image.features[image.overlap[:, index] < NEGATIVE_BELOW] for image in images]
        rng = np.random.default_rng([seed, index])
        first = [rng.permutation(part)[:FIRST_NEGATIVES] for part in negatives]
        weight, bias = _svm(positive * scale, np.concatenate(first) * scale)
        hard = [part[part @ (weight * scale) + bias > HARD] for part in negatives]
        weight, bias = _svm(positive * scale, np.concatenate([*first, *hard]) * scale)
        logits[0][:, index], logits[1][index] = weight * scale, bias
        deltas[0][:, index], deltas[1][index] = _regression(images, index, scale)
    logits[1][~np.isfinite(logits[1])] = -1e4
    return {
        "logits": {"kernel": logits[0].astype(np.float32), "bias": logits[1].astype(np.float32)},
        "deltas": {
            "kernel": deltas[0].reshape(depth, -1).astype(np.float32),
            "bias": deltas[1].reshape(-1).astype(np.float32),
        },
    }


def _svm(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, float]:
    from sklearn.svm import LinearSVC  # slow to import

    svm = LinearSVC(
        C=COST,
        intercept_scaling=BIAS_SCALE,
        class_weight={1: POSITIVE_WEIGHT},
        max_iter=10_000,
        random_state=0,
    )
    if not len(negative):
        return np.zeros(positive.shape[1]), 1.0
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    svm.fit(np.concatenate([positive, negative]), truth)
    return svm.coef_[0], float(svm.intercept_[0])


def _regression(images: list[ImageBoxes], index: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge  # slow to import

    near = [(i.iou > REGRESSED_ABOVE) & (i.classes == index) for i in images]
    boxes, target, features = (
        np.concatenate([getattr(image, name)[mask] for image, mask in zip(images, near, strict=True)])
        for name in ("boxes", "target", "features")
    )
    deltas = np.asarray(box_ops.encode(target, boxes, weights=HEAD_WEIGHTS))
    ridge = Ridge(alpha=RIDGE).fit(features * scale, deltas)
    return ridge.coef_.T * scale, ridge.intercept_


def describe_images(
    source: Source,
    roi_features: RoIFeatures,
    *,
    propose: Callable[[np.ndarray], np.ndarray],
    max_proposals: int,
    encode: Encode | None = None,
    **preprocessing: Any,
) -> Iterator[ImageBoxes]:
    """Computes features and overlaps of the objects and the proposals of each image that has an object.

    As in training, a negative proposal whose centre lies on an ignored pixel is left out.

    Args:
      source: the records.
      roi_features: computes the features of boxes of an image, or of its feature maps if `encode` is given.
      propose: `image as stored -> boxes [P, 4]` in its pixels.
      max_proposals: maximum per image; if there are more, evenly spaced ones are used.
      encode: computes the feature maps that all boxes of an image share, once; None if they share none.
      **preprocessing: arguments of `preprocess_example`, as in training.
    """
    num_classes = len(source.class_names)
    for number in tqdm(range(len(source)), desc="features", unit="image", leave=False):
        record = source[number]
        example = preprocess_example(record, num_classes=num_classes, targets=(), **preprocessing)
        objects, ids = host_boxes.boxes_from_labels(example["labels"])
        if not len(objects):
            continue
        classes = record.truth.classes[ids - 1]
        proposals = propose(record.image) * np.float32(preprocessing["scale"])
        selected = np.linspace(0, len(proposals) - 1, min(max_proposals, len(proposals))).astype(int)
        boxes = np.concatenate([objects, proposals[selected]]).astype(np.float32)
        overlap = host_boxes.pairwise_iou(boxes, objects)
        judged = (overlap.max(1) >= NEGATIVE_BELOW) | ~host_boxes.centres_on(
            example["semantic"] == IGNORE, boxes
        )
        boxes, overlap = boxes[judged], overlap[judged]
        best = overlap.argmax(1)
        # The IoU of an object with itself is 1, without rounding errors.
        overlap[np.arange(len(objects)), np.arange(len(objects))] = 1
        per_class = np.stack(
            [overlap[:, classes == index].max(1, initial=0) for index in range(num_classes)], axis=1
        )
        yield ImageBoxes(
            _features(roi_features, encode, example["image"], boxes),
            boxes,
            objects[best],
            overlap.max(1),
            classes[best],
            per_class,
        )


def _features(
    roi_features: RoIFeatures, encode: Encode | None, image: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    # Padding leaves few image sizes and one number of boxes, so that few programs are compiled.
    margins = [(0, -side % 256) for side in image.shape[:2]]
    padded = np.pad(image, [*margins, (0, 0)], mode="symmetric")[None]
    encoded = padded if encode is None else encode(padded)
    count = len(boxes)
    boxes = np.pad(boxes, ((0, -count % CHUNK), (0, 0)))
    parts = [np.asarray(roi_features(encoded, part[None]))[0] for part in boxes.reshape(-1, CHUNK, 4)]
    return np.concatenate(parts)[:count]


def save(predictor: dict[str, dict[str, np.ndarray]], workdir: Path, step: int, *, network: str = "") -> None:
    """Writes the result of `fit_predictor`.

    Args:
      predictor: the result.
      workdir: the folder of the run.
      step: step of the parameters that the features are from.
      network: digest of these parameters; "" if it is not known.
    """
    flat = {f"{layer}/{name}": value for layer, part in predictor.items() for name, value in part.items()}
    with atomic_write(workdir / FILE) as tmp_path:
        write_tensors(flat, tmp_path, {"step": str(step), "network": network})


def stored_step(workdir: Path, *, network: str = "") -> int | None:
    """Returns the step that the SVMs of a run belong to.

    Args:
      workdir: the folder of the run.
      network: digest of the parameters; "" for any.

    Returns:
      None if they are missing, damaged, or belong to other parameters.
    """
    try:
        with safe_open(workdir / FILE, framework="numpy") as file:
            metadata = file.metadata() or {}
            return int(metadata["step"]) if _fits(metadata, network) else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _fits(metadata: Mapping[str, str], network: str) -> bool:
    """Returns whether SVMs belong to parameters, as far as both digests are known."""
    return not (network and metadata.get("network")) or metadata["network"] == network


def load(params: Params, workdir: Path, step: int, *, network: str = "") -> Params:
    """Replaces the trained classifier by the SVMs of a run.

    Args:
      params: the parameters.
      workdir: the folder of the run.
      step: their step.
      network: their digest; "" if it is not known.

    Raises:
      InputError: if the SVMs are missing, damaged, or belong to another step or to other parameters.
    """
    path = workdir / FILE
    remedy = f"delete {path} and run segjax train again"
    if not path.exists():
        raise InputError(f"{path} does not exist yet: segjax train writes it at its end")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        saved_step = int(metadata["step"])
        predictor = {
            layer: {name: tensors[f"{layer}/{name}"] for name in ("kernel", "bias")}
            for layer in ("logits", "deltas")
        }
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}") from error
    if saved_step != step:
        raise InputError(
            f"{path} belongs to step {saved_step}, but the checkpoint is of step {step}: {remedy}"
        )
    if not _fits(metadata, network):
        raise InputError(f"{path} belongs to other parameters of step {step}: {remedy}")
    return {**params, "box_predictor": predictor}
