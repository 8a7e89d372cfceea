"""Logistic regression that classifies instances by their measurements."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segjax.classical.measurements import Table, measure
from segjax.errors import InputError
from segjax.files import read_json_object, write_json
from segjax.segmentation import Method, Segmentation
from segjax.segmentation.masks import weighted_median
from segjax.settings import broken_rule

KIND = "segjax instance classifier, version 1"
ARRAYS = ("mean", "scale", "weights", "bias")
# Input features. None depends on the exposure. Gradient, homogeneity and neighbours depend on the
# magnification, because they are measured between adjacent pixels, or within a distance in pixels.
DESCRIPTORS = (
    "log area",
    "log area squared",
    "eccentricity",
    "solidity",
    "extent",
    "form factor",
    "log intensity",
    "relative deviation",
    "relative gradient",
    "homogeneity",
    "log nearest",
    "neighbours",
    "touches border",
)


@dataclasses.dataclass(frozen=True, eq=False)
class InstanceClassifier:
    """A linear classifier of `DESCRIPTORS`.

    Attributes:
      class_names: K names, background first.
      classes: [M] int32, the classes that can be predicted, each from 1 to K - 1.
      mean: [F] means of the descriptors over the training instances.
      scale: [F] standard deviations of the descriptors over the training instances.
      weights: [F, M] weights of the standardised descriptors.
      bias: [M] bias of each class.
    """

    class_names: tuple[str, ...]
    classes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def classify(self, image: np.ndarray, segmentation: Segmentation) -> Segmentation:
        """Sets the class of each instance to the most likely class, and its score to the probability.

        Args:
          image: [H, W, C] image, any real dtype.
          segmentation: segmentation [H, W] of the image; its classes and scores are ignored.

        Returns:
          The same instances with new classes and scores.
        """
        if not segmentation.num_instances:
            return segmentation
        values = (descriptors(measure(image, segmentation)) - self.mean) / self.scale
        logits = values @ self.weights + self.bias
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        scores = probabilities.max(axis=1)
        return Segmentation.from_labels(segmentation.labels, classes=self.classes[best], scores=scores)

    def wrap(self, method: Method) -> Method:
        """Returns a method that also classifies the instances of `method`."""
        return lambda image: self.classify(image, method(image))

    def save(self, path: str | Path) -> None:
        """Writes the classifier atomically, as JSON."""
        content = {"kind": KIND, "class_names": self.class_names, "descriptors": DESCRIPTORS}
        content |= {name: getattr(self, name).tolist() for name in ("classes", *ARRAYS)}
        write_json(path, content)


def load(path: str | Path) -> InstanceClassifier:
    """Reads a classifier from a file written by `InstanceClassifier.save`; `~` is the home folder.

    Raises:
      InputError: if the file is missing, damaged, or of another version.
    """
    hint = "; segjax evaluate --config=classical writes one"
    try:
        content = read_json_object(Path(path).expanduser())
        names = tuple(content["class_names"])
        classes = np.array(content["classes"], np.int32)
        arrays = {name: np.array(content[name], float) for name in ARRAYS}
    except FileNotFoundError as error:
        raise InputError(f"there is no classifier {path}{hint}") from error
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(f"{path} is no classifier of instances ({error!r}){hint}") from error
    if content.get("kind") != KIND or content.get("descriptors") != [*DESCRIPTORS]:
        raise InputError(f"{path} was written by another version of segjax{hint}")
    if rule := broken_rule(names, tuple[str, ...]):
        raise InputError(f"{path}: class_names must be {rule}{hint}")
    features, kinds = len(DESCRIPTORS), classes.size
    shapes = ((features,), (features,), (features, kinds), (kinds,))
    for name, shape in zip(ARRAYS, shapes, strict=True):
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} must be {shape} finite numbers{hint}")
    are_classes = classes.ndim == 1 and kinds and classes.min() >= 1 and classes.max() < len(names)
    if not are_classes or (arrays["scale"] <= 0).any():
        raise InputError(f"{path}: classes or scale are out of range{hint}")
    return InstanceClassifier(names, classes, **arrays)


def fit(
    tables: Sequence[Table], classes: Sequence[np.ndarray], *, class_names: Sequence[str], seed: int = 0
) -> InstanceClassifier:
    """Fits a classifier, with balanced class weights.

    Args:
      tables: measurements of each image.
      classes: for each image, [N] int classes of its instances; instances with class 0 or less are ignored.
      class_names: K names, background first.
      seed: random seed of the solver.

    Returns:
      The classifier. With instances of a single class, it always predicts that class; without any training
      instance, class 1.

    References:
      sklearn.linear_model.LogisticRegression, class_weight="balanced".
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([np.zeros((0, len(DESCRIPTORS))), *(descriptors(table) for table in tables)])
    targets = np.concatenate([np.zeros(0, int), *classes]).astype(int)
    values, targets = values[targets > 0], targets[targets > 0]
    present = np.unique(targets) if len(targets) else np.array([1])
    mean = values.mean(axis=0) if len(values) else np.zeros(len(DESCRIPTORS))
    scale = values.std(axis=0) if len(values) else np.ones(len(DESCRIPTORS))
    scale = np.where(scale > 1e-12, scale, 1.0)
    weights, bias = np.zeros((len(DESCRIPTORS), len(present))), np.zeros(len(present))
    if len(present) > 1:
        model = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)
        with warnings.catch_warnings():
            # If 1000 steps do not suffice for convergence, more would hardly change the predictions.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((values - mean) / scale, targets)
        weights, bias = model.coef_.T, model.intercept_
        if len(present) == 2:  # scikit-learn stores only the logit of the second class
            weights, bias = np.column_stack([-weights, weights]) / 2, np.array([-bias[0], bias[0]]) / 2
    return InstanceClassifier(tuple(class_names), present.astype(np.int32), mean, scale, weights, bias)


def descriptors(table: Table) -> np.ndarray:
    """Returns the `DESCRIPTORS` [N, F] of measured instances.

    Sizes are relative to the area-weighted median area of the image's instances, intensities to the median
    instance. A micronucleus is thus small at any magnification. Channels are averaged.
    """
    area = table["area_px"]
    if not len(area):
        return np.zeros((0, len(DESCRIPTORS)))

    def averaged(name: str) -> np.ndarray:
        return np.mean([column for key, column in table.items() if key.startswith(f"{name}_")], axis=0)

    typical = weighted_median(area, area)
    floor = np.mean([column.min() for key, column in table.items() if key.startswith("min_")])
    bright = np.maximum(averaged("mean") - floor, 1e-12)
    median = max(float(np.median(bright)), 1e-12)
    size = np.log(area / typical)
    diameter = 2 * np.sqrt(typical / np.pi)
    nearest = np.minimum(table["nearest_px"], 100 * diameter)
    columns = (
        size,
        size**2,
        table["eccentricity"],
        table["solidity"],
        table["extent"],
        np.minimum(table["form_factor"], 2.0),
        np.log(np.clip(bright / median, 1e-3, 1e3)),
        averaged("std") / median,
        averaged("gradient") / median,
        averaged("homogeneity"),
        np.log(np.maximum(nearest / diameter, 1e-2)),
        np.minimum(table["neighbours"], 10),
        table["touches_border"],
    )
    return np.column_stack(columns).astype(np.float64)


def training_classes(prediction: Segmentation, truth: Segmentation) -> np.ndarray:
    """Returns the true class of each predicted instance, the training target of the classifier.

    Args:
      prediction: predicted segmentation of an image.
      truth: ground truth of the same image.

    Returns:
      [N] int32: the majority class of the instance's pixels in the truth; 0 if less than half of them lie
      in any true instance.
    """
    true_classes = truth.class_map
    kinds = int(true_classes.max(initial=0)) + 1
    joint = prediction.labels.astype(np.int64) * kinds + true_classes
    counts = np.bincount(joint.ravel(), minlength=(prediction.num_instances + 1) * kinds)
    counts = counts.reshape(-1, kinds)[1:]
    inside = counts[:, 1:].sum(axis=1)
    best = counts[:, 1:].argmax(axis=1) + 1 if kinds > 1 else np.zeros(len(counts), int)
    return np.where(2 * inside >= np.maximum(counts.sum(axis=1), 1), best, 0).astype(np.int32)
