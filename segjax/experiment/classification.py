"""Fits the classifier that gives the instances of classical methods their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from segjax.classical.classifier import InstanceClassifier, fit, load, training_classes
from segjax.classical.measurements import Table, measure
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment.evaluation_classes import in_one_class
from segjax.experiment.methods import make_classical, method_digest
from segjax.experiment.remembering import Memory
from segjax.experiment.setup import open_split
from segjax.segmentation import Method
from segjax.train.processes import all_or_none, spread


def make_classifying(
    name: str,
    config: ConfigDict,
    class_names: Sequence[str],
    folder: Path,
    *,
    memory: Memory | None = None,
) -> Method:
    """Makes a classical method whose instances have classes, if there is more than one foreground class.

    Args:
      name: name of the method in `config.methods`.
      config: a config from configs/classical.py. The classifier is read from `config.classifier.file`, or
        fitted on the training split if `config.classifier.fit` is set.
      class_names: K names, background first.
      folder: a fitted classifier is written to `classifier_<name>.json` in it.
      memory: remembers the segmentations, which have no classes yet.

    Raises:
      InputError: if there is no such method, or the file of the classifier cannot be used.
    """
    method = make_classical(config, name)
    if memory is not None:
        settings = config.methods[name].to_json(sort_keys=True)
        method = memory.method(method, method_digest(name, settings))
    if config.classifier.file:
        classifier = load(config.classifier.file)
        if classifier.class_names != tuple(class_names):
            raise InputError(
                f"{config.classifier.file} classifies {', '.join(classifier.class_names)}, but the data have"
                f" {', '.join(class_names)}: fit a classifier on these data"
            )
        return classifier.wrap(method)
    if len(class_names) == 2:
        return lambda image: in_one_class(method(image))
    if not config.classifier.fit:
        return method
    source = open_split(config, "train")
    classifier = fit_classifier(method, source, seed=config.seed, description=f"classes for {name}")
    with all_or_none("the file of the classifier"):
        if jax.process_index() == 0:
            classifier.save(folder / f"classifier_{name}.json")
    return classifier.wrap(method)


def fit_classifier(method: Method, source: Source, *, seed: int, description: str) -> InstanceClassifier:
    """Fits a classifier to the segmentations of annotated images.

    Args:
      method: `image [H, W, C] -> Segmentation`.
      source: the training split.
      seed: random seed of the fit.
      description: label of the progress bar.
    """

    def measure_one(index: int) -> tuple[Table, np.ndarray]:
        record = source[index]
        segmentation = method(record.image)
        return measure(record.image, segmentation), training_classes(segmentation, record.truth)

    tables, classes = zip(*spread(measure_one, len(source), description), strict=True)
    return fit(tables, classes, class_names=source.class_names, seed=seed)
