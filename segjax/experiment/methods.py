"""Opens methods, functions from an image to its segmentation: trained runs and classical methods."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segjax.classical import METHODS, ClassicalSegmenter, make_method
from segjax.classical.classifier import load
from segjax.classical.region_proposals import PROPOSALS
from segjax.data.channels import match_channels
from segjax.data.preprocess import Preprocessing
from segjax.data.readers.image import as_native
from segjax.errors import InputError, choose
from segjax.experiment.decoder_fit import fitted_task, free_settings
from segjax.experiment.pretrained import open_pretrained
from segjax.experiment.proposal_cache import CachedProposals, cached_proposals
from segjax.experiment.section_reading import config_section
from segjax.experiment.sections import read_predict, read_proposals
from segjax.experiment.setup import (
    make_task,
    preprocessing_settings,
    read_run,
    restore_params,
)
from segjax.experiment.workdir import ModelMetadata
from segjax.files import file_digest
from segjax.inference.dense import DensePredictor
from segjax.inference.predictor import Predictor, create_predictor
from segjax.inference.tiling import Windows
from segjax.models.weights.network import find, names
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
      digest: digest of the parameters and settings, equal for methods that give equal results; "" if unknown.
    """

    method: Method
    class_names: Sequence[str] | None = None
    channels: int | None = None
    step: int | None = None
    mask_threshold: float = 0.5
    digest: str = ""

    def __call__(self, image: np.ndarray) -> Segmentation:
        """Segments an image.

        Args:
          image: [H, W] or [H, W, C], of any real dtype. A network trained on colour takes grey images, and
            one trained on grey images takes colour images with equal channels, see `match_channels`.

        Raises:
          InputError: if the image has another shape, no pixels, NaN or infinite ones, or other channels than
            the training images.
        """
        image = np.asarray(image)
        if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
            raise InputError(
                f"the image is {image.dtype} of shape {image.shape}: give an array [H, W] or [H, W, C] of"
                " real numbers"
            )
        if not image.size:
            raise InputError(f"the image has the shape {image.shape}: give one with pixels")
        image = as_native(image if image.ndim == 3 else image[..., None], "the image")
        return self.method(match_channels(image, self.channels))


def open_method(source: str | Path | ConfigDict) -> OpenedMethod:
    """Opens a method.

    Args:
      source: the folder of a run of `segjax train`; the name of a network in the package, or a file of
        `segjax export`; the name of a classical method, for its default settings; or a config of one
        classical method.

    Raises:
      InputError: if there is no such method, or no checkpoint that is intact.

    >>> image = np.zeros((64, 64), np.uint8)
    >>> image[10:30, 10:30] = image[34:60, 34:60] = 200
    >>> open_method("watershed")(image).num_instances
    2
    """
    if isinstance(source, ConfigDict):
        return _open_config(source)
    source = os.path.expanduser(source)
    if Path(source).is_dir() and source not in names():
        return open_run(Path(source))
    if (path := find(source)) is not None:
        config, metadata, task, params, step = open_pretrained(path)
        return _open_network(config, metadata, task, params, step)
    if str(source) in METHODS:
        return OpenedMethod(make_method(str(source)), digest=method_digest(source))
    raise InputError(
        f"{source} is neither the folder of a run, nor a file of segjax export, nor the name of a network or"
        f" of a classical method: choose one of {', '.join((*names(), *METHODS))}"
    )


def open_run(workdir: Path, *, fitted: bool = True) -> OpenedMethod:
    """Opens the trained method of a run.

    Args:
      workdir: the folder of the run.
      fitted: whether to use the settings of the decoder that were fitted on the validation split.

    Raises:
      InputError: if there is no intact checkpoint.
    """
    config, metadata = read_run(workdir)
    task, params, step = restore_params(workdir, config, metadata)
    if has_svm(config):
        task, params = (
            make_task(config, metadata, svm=True),
            rcnn_svm.load(params, workdir, step, network=fingerprint(params)),
        )
    if fitted:
        task = fitted_task(task, workdir, step, params)
    return _open_network(config, metadata, task, params, step)


def with_diameter(opened: OpenedMethod, diameter: float) -> OpenedMethod:
    """Returns a method for images whose instances have a typical diameter.

    Args:
      opened: a classical method, or a network that was trained on images of one diameter.
      diameter: pixels; 0 to estimate it for each image.

    Raises:
      InputError: if the method scales no images, or the diameter is out of range.
    """
    method = opened.method
    if isinstance(method, ClassicalSegmenter):
        changed: Method = method.with_diameter(diameter or None)
    elif isinstance(method, DensePredictor) and method.config.trained_diameter is not None:
        changed = dataclasses.replace(method, config=dataclasses.replace(method.config, diameter=diameter))
    else:
        raise InputError(
            "--diameter is for networks that were trained with config.data.diameter, and for classical"
            " methods without a classifier: leave it out"
        )
    return opened._replace(method=changed, digest=method_digest(opened.digest, diameter))


def _open_network(
    config: ConfigDict, metadata: ModelMetadata, task: Task, params: Params, step: int
) -> OpenedMethod:
    predictor = make_predictor(config, task, params)
    threshold = task.config.mask_threshold if isinstance(task, DetectionTask) else 0.5
    # The settings of the task are those of the config, or fitted ones. Proposals have their own version.
    proposer = getattr(predictor, "proposer", None)
    proposals = () if proposer is None else (proposer.folder.name,)
    digest = method_digest(
        fingerprint(params), config.to_json(sort_keys=True), cast(Any, task).config, metadata, *proposals
    )
    return OpenedMethod(predictor, metadata.class_names, metadata.channels, step, threshold, digest)


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
    settings = config.methods.to_json(sort_keys=True)
    if not config.classifier.file:
        return OpenedMethod(method, digest=method_digest(settings))
    classifier = load(config.classifier.file)
    digest = method_digest(settings, file_digest(Path(config.classifier.file).expanduser()))
    return OpenedMethod(classifier.wrap(method), classifier.class_names, digest=digest)


def method_digest(*parts: object) -> str:
    """Returns the digest of a method from what determines its results, and the version of the package."""
    return hashlib.sha256("\n".join(map(str, (version("segjax"), *parts))).encode()).hexdigest()


def make_classical(config: ConfigDict, name: str) -> Method:
    """Makes a classical method with the settings of a config."""
    with config_section(f"config.methods.{name}"):
        return make_method(name, **config.methods[name])


def make_reference(config: ConfigDict) -> OpenedMethod:
    """Makes the classical method that serves as the reference in comparisons."""
    with config_section("config.reference"):
        method = make_method(**config.reference)
    return OpenedMethod(method, digest=method_digest(config.reference.to_json(sort_keys=True)))


def make_predictor(config: ConfigDict, task: Task, params: Params) -> Predictor:
    """Makes the method of a trained network."""
    prediction = read_predict(config)
    settings: dict[str, Any] = {}
    if "proposals" in config:
        settings = {"propose": make_proposer(config), "max_proposals": read_proposals(config).max_proposals}
    if warning := small_tile(config):
        logging.warning(warning)
    with config_section("config.predict"):
        return create_predictor(
            task, params, prepare=make_preprocessing(config), config=prediction, **settings
        )


def check_use(config: ConfigDict, task: Task) -> None:
    """Checks those settings of prediction that depend on the network.

    Raises:
      InputError: if windows overlap too much, or `config.predict.fixed` names no setting of the decoder.
    """
    settings = read_predict(config)
    with config_section("config.predict"):
        Windows(settings.tile, settings.overlap, stride=cast(Any, task).stride)
        free_settings(task, config.predict.get("fixed", ()))


def small_tile(config: ConfigDict) -> str | None:
    """Returns a warning if windows are smaller than the patches of the training, else None."""
    tile, patch = config.predict.tile, config.data.patch_size
    if tile >= patch:
        return None
    return (
        f"config.predict.tile={tile} is below config.data.patch_size={patch}: the network sees less of the"
        " surroundings of a pixel than in training, so scores and class weights do not carry over; set"
        f" config.predict.tile to {patch} or more"
    )


def make_preprocessing(config: ConfigDict) -> Preprocessing:
    """Returns `image as read -> input of the network`."""
    return Preprocessing(**preprocessing_settings(config))


def make_proposer(config: ConfigDict) -> CachedProposals | None:
    """Returns the external region proposals of a config, cached next to its data; None if it has none.

    Raises:
      InputError: if the method is unknown, or needs a run with an RPN.
    """
    if "proposals" not in config:
        return None
    method = proposal_method(config)
    if method != "rpn":
        return cached_proposals(PROPOSALS[method], method, config)
    workdir = Path(config.proposals.workdir).expanduser()
    rpn_config, metadata = read_run(workdir)
    task, params, _ = restore_params(workdir, rpn_config, metadata)
    if not isinstance(task, DetectionTask) or task.proposals:
        raise InputError(
            f"config.proposals.workdir={workdir} has no RPN: give a run of faster_r_cnn or mask_r_cnn"
        )
    predictor: Any = make_predictor(rpn_config, task, params)
    # The cache key includes parameters and settings, because the boxes depend on them.
    digest = hashlib.sha256(f"{fingerprint(params)} {rpn_config.to_json(sort_keys=True)}".encode())
    return cached_proposals(predictor.propose, f"rpn-{digest.hexdigest()[:16]}", config)


def proposal_method(config: ConfigDict) -> str:
    """Returns the method of the external region proposals of a config; errors as `make_proposer`."""
    method = choose((*PROPOSALS, "rpn"), "config.proposals.method", config.proposals.method)
    if method == "rpn" and not config.proposals.workdir:
        raise InputError("config.proposals.method=rpn needs config.proposals.workdir, a run with an RPN")
    return method


def has_svm(config: ConfigDict) -> bool:
    """Returns whether SVMs replace the classifier after training."""
    return config.task.get("classifier", "softmax") == "svm"
