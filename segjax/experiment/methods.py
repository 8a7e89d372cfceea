"""Opens methods, functions from an image to its segmentation: trained runs and classical methods."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from segjax.classical import METHODS, make_method
from segjax.classical.classifier import load
from segjax.classical.region_proposals import PROPOSALS
from segjax.data.preprocess import preprocess_image
from segjax.errors import InputError, choose
from segjax.experiment.proposal_cache import Proposer, cached_proposals
from segjax.experiment.setup import (
    config_section,
    make_task,
    preprocessing_settings,
    restore_params,
)
from segjax.experiment.workdir import read_config, read_metadata
from segjax.inference.predictor import Predictor, create_predictor
from segjax.segmentation import Method, Segmentation
from segjax.tasks import rcnn_svm
from segjax.tasks.base import Task
from segjax.tasks.detection import DetectionTask
from segjax.train.state import fingerprint
from segjax.typing import Params


class OpenedMethod(NamedTuple):
    """A method with properties of its inputs and outputs; calling it calls the method.

    Attributes:
      method: segments an image [H, W, C].
      class_names: None if its classes have no names.
      channels: number of channels that it expects, None for any.
      step: training step of its parameters, None if nothing was trained.
      mask_threshold: probability from which a pixel belongs to a detected object.
    """

    method: Method
    class_names: Sequence[str] | None = None
    channels: int | None = None
    step: int | None = None
    mask_threshold: float = 0.5

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image.

        Args:
          image: [H, W] or [H, W, C], of any real dtype.

        Raises:
          InputError: if the image has another shape, or not the channels of the training images.
        """
        image = np.asarray(image)
        if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
            raise InputError(
                f"an image is an array [H, W] or [H, W, C] of real numbers, not {image.dtype} of shape"
                f" {image.shape}"
            )
        image = image if image.ndim == 3 else image[..., None]
        if self.channels not in (None, image.shape[-1]):
            raise InputError(
                f"the image has {image.shape[-1]} channels, but the network was trained on {self.channels}"
            )
        return self.method(image)


def open_method(source: str | Path | ConfigDict) -> OpenedMethod:
    """Opens a method.

    Args:
      source: the folder of a run of `segjax train`; the name of a classical method, for its default
        settings; or a config of one classical method.

    Raises:
      InputError: if there is no such method, or no checkpoint that is intact.

    >>> image = np.zeros((64, 64), np.uint8)
    >>> image[10:30, 10:30] = image[34:60, 34:60] = 200
    >>> open_method("watershed")(image).num_instances
    2
    """
    if isinstance(source, ConfigDict):
        return _open_config(source)
    if not Path(source).is_dir():
        if str(source) not in METHODS:
            raise InputError(
                f"{source} is neither the folder of a run nor a classical method: choose one of"
                f" {', '.join(METHODS)}"
            )
        return OpenedMethod(make_method(str(source)))
    return open_run(Path(source))


def open_run(workdir: Path) -> OpenedMethod:
    """Opens the trained method of a run.

    Raises:
      InputError: if there is no intact checkpoint.
    """
    config, metadata = read_config(workdir), read_metadata(workdir)
    task, params, step = restore_params(workdir, config, metadata)
    if has_svm(config):
        task, params = make_task(config, metadata, svm=True), rcnn_svm.load(params, workdir, step)
    predictor = make_predictor(config, task, params)
    threshold = config.task.get("mask_threshold", 0.5)
    return OpenedMethod(predictor, metadata.class_names, metadata.channels, step, threshold)


def _open_config(config: ConfigDict) -> OpenedMethod:
    if "methods" not in config:
        raise InputError(
            "--config names a network, which must be trained first: give --workdir=RUN of segjax train, or a"
            " classical method, such as --config=classical:method=watershed"
        )
    if len(config.methods) != 1:
        raise InputError(
            f"--config names {len(config.methods)} methods: choose one, such as classical:method=kmeans"
        )
    (name,) = config.methods
    method = make_classical(config, name)
    if not config.classifier.file:
        return OpenedMethod(method)
    classifier = load(config.classifier.file)
    return OpenedMethod(classifier.wrap(method), classifier.class_names)


def make_classical(config: ConfigDict, name: str) -> Method:
    """Makes a classical method with the settings of a config."""
    return make_method(name, **config.methods[name])


def make_reference(config: ConfigDict) -> Method:
    """Makes the classical method that serves as the reference in comparisons."""
    settings = dict(config.reference)
    return make_method(settings.pop("name"), **settings)


def make_predictor(config: ConfigDict, task: Task, params: Params) -> Predictor:
    """Makes the method of a trained network."""
    settings: dict[str, Any] = {name: config.predict[name] for name in ("tile", "overlap", "flips")}
    if "proposals" in config:
        settings |= {"propose": make_proposer(config), "max_proposals": config.proposals.max_proposals}
    with config_section("config.predict"):
        return create_predictor(task, params, prepare=make_preprocessing(config), **settings)


def make_preprocessing(config: ConfigDict) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `image as read -> input of the network`."""
    return functools.partial(preprocess_image, **preprocessing_settings(config))


def make_proposer(config: ConfigDict) -> Proposer | None:
    """Returns the external region proposals of a config, cached next to its data; None if it has none.

    Raises:
      InputError: if the method is unknown, or needs a run with an RPN.
    """
    if "proposals" not in config:
        return None
    method = choose((*PROPOSALS, "rpn"), "config.proposals.method", config.proposals.method)
    if method != "rpn":
        return cached_proposals(PROPOSALS[method], method, config)
    if not config.proposals.workdir:
        raise InputError("config.proposals.method=rpn needs config.proposals.workdir, a run with an RPN")
    workdir = Path(config.proposals.workdir)
    rpn_config = read_config(workdir)
    task, params, _ = restore_params(workdir, rpn_config, read_metadata(workdir))
    if not isinstance(task, DetectionTask) or task.proposals:
        raise InputError(
            f"config.proposals.workdir={workdir} has no RPN: give a run of faster_r_cnn or mask_r_cnn"
        )
    predictor: Any = make_predictor(rpn_config, task, params)
    # The cache key includes parameters and settings, because the boxes depend on them.
    digest = hashlib.sha256(f"{fingerprint(params)} {rpn_config.to_json(sort_keys=True)}".encode())
    return cached_proposals(predictor.propose, f"rpn-{digest.hexdigest()[:16]}", config)


def has_svm(config: ConfigDict) -> bool:
    """Returns whether SVMs replace the classifier after training."""
    return config.task.get("classifier", "softmax") == "svm"
