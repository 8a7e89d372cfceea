"""Classes for the instances of methods that know none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.classical.classifier import InstanceClassifier, fit, load, training_classes
from segjax.classical.measurements import measure
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment.build import open_split
from segjax.experiment.classical import make_classical
from segjax.segmentation import Method, Segmentation


def classified(
    name: str, config: ConfigDict, class_names: Sequence[str], folder: Path | None = None
) -> Method:
    """A method without weights, its instances given classes if there is more than one to give.

    Args:
      name: of the method in `config.methods`.
      config: of configs/classical.py. `config.classifier.file` is used if given; else, with
        `config.classifier.fit`, a classifier is fitted on the training split.
      class_names: K names, background first.
      folder: where a fitted classifier is written, as `classifier_<name>.json`.

    Returns:
      The method.

    Raises:
      InputError: if there is no such method, or the file of the classifier cannot be used.
    """
    method = make_classical(name, config.methods[name])
    if config.classifier.file:
        classifier = load(config.classifier.file)
        if classifier.class_names != tuple(class_names):
            raise InputError(
                f"{config.classifier.file} tells {', '.join(classifier.class_names)} apart, but the data have"
                f" {', '.join(class_names)}: fit one on these data"
            )
    elif config.classifier.fit and len(class_names) > 2:
        classifier = fit_classifier(
            method, open_split(config, "train"), seed=config.seed, description=f"classes for {name}"
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            classifier.save(folder / f"classifier_{name}.json")
    else:
        return method
    return with_classes(method, classifier)


def with_classes(method: Method, classifier: InstanceClassifier) -> Method:
    """The method, whose instances a classifier gives classes to."""

    def classified_method(image: np.ndarray) -> Segmentation:
        return classifier.classify(image, method(image))

    return classified_method


def fit_classifier(method: Method, source: Source, *, seed: int, description: str) -> InstanceClassifier:
    """Fits a classifier on what a method makes of annotated images.

    Args:
      method: `image [H, W, C] -> Segmentation`.
      source: the training split.
      seed: of the fit.
      description: shown at the progress bar.

    Returns:
      The classifier.
    """
    tables, classes = [], []
    for index in tqdm(range(len(source)), desc=description, unit="image", dynamic_ncols=True, leave=False):
        record = source[index]
        made = method(record.image)
        tables.append(measure(record.image, made))
        classes.append(training_classes(made, record.truth))
    return fit(tables, classes, class_names=source.class_names, seed=seed)
