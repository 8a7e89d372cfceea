"""Chooses the method of a prediction: a run, several runs whose maps are averaged, or any other method."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.experiment.ensembles import with_seeds
from segjax.experiment.finished_images import Predicted
from segjax.experiment.methods import OpenedMethod, open_method, open_run
from segjax.experiment.setup import preprocessing_settings, read_run
from segjax.inference import coco
from segjax.inference.dense import DensePredictor, EnsemblePredictor
from segjax.inference.predictor import Detector

# The network in the package that segments if no other method is given.
DEFAULT = "nuclei"


def select_method(
    workdirs: Sequence[Path] = (),
    config: ConfigDict | None = None,
    model: str | None = None,
    *,
    flips: bool = False,
) -> OpenedMethod:
    """Opens the method of trained runs, of a config that needs no training, or of an exported network.

    Args:
      workdirs: folders of runs; that of an ensemble stands for all its seeds. The maps of several runs are
        averaged, and decoded with the settings that were fitted for the first.
      config: a config of one classical method.
      model: an exported network.
      flips: whether to average the maps over the image and its mirror images, see `PredictConfig`.

    Raises:
      InputError: if more than one of the three is given, it names no method, or maps cannot be averaged.
    """
    if [workdirs or None, config, model].count(None) < 2:
        raise InputError(
            "give only one of --workdir=RUN, a trained run, --model=FILE, an exported network, and"
            " --config=FILE, a classical method"
        )
    if not workdirs:
        opened = [open_method(config or model or DEFAULT)]
    else:
        workdirs = with_seeds(workdirs)
        opened = [open_run(workdir) for workdir in workdirs]
    if flips:
        opened = [_with_flips(method) for method in opened]
    return opened[0] if len(opened) == 1 else _averaged(workdirs, opened)


def predict_image(selected: OpenedMethod, image: np.ndarray, *, uncertainty: bool = False) -> Predicted:
    """Segments an image [H, W, C].

    Args:
      selected: the method.
      image: with the channels that the method expects.
      uncertainty: whether the result has the uncertainty of each pixel, if the method states it.
    """
    method = selected.method
    if isinstance(method, Detector):
        detections = method.detect(image)
        annotations = coco.detection_annotations(detections, threshold=selected.mask_threshold)
        return Predicted(method.segment(detections), annotations)
    if uncertainty and isinstance(method, DensePredictor):
        segmentation, uncertainties = method.segment_with_uncertainty(image)
        return Predicted(segmentation, uncertainty=uncertainties.astype(np.float16))
    return Predicted(method(image))


def _with_flips(opened: OpenedMethod) -> OpenedMethod:
    method = opened.method
    if not isinstance(method, DensePredictor):
        raise InputError(
            "--flips averages maps, which only segmenters predict: leave it out, or give a run of a segmenter"
        )
    flipped = dataclasses.replace(method, config=dataclasses.replace(method.config, flips=True))
    return opened._replace(method=flipped, digest=_digest(opened.digest, "flips"))


def _averaged(workdirs: Sequence[Path], opened: Sequence[OpenedMethod]) -> OpenedMethod:
    """Returns the method that averages the maps of several runs."""
    members, properties = [], []
    for workdir, member in zip(workdirs, opened, strict=True):
        if not isinstance(member.method, DensePredictor):
            raise InputError(
                f"--workdir of several runs averages their maps, but {workdir} detects objects: give it alone"
            )
        config, _ = read_run(workdir)
        members.append(member.method)
        properties.append(
            {
                "classes": tuple(member.class_names or ()),
                "channels": member.channels,
                "config.task.instances": config.task.instances,
                "config.data.diameter": member.method.config.trained_diameter,
                **{f"config.data.{name}": value for name, value in preprocessing_settings(config).items()},
            }
        )
    for workdir, own in zip(workdirs[1:], properties[1:], strict=True):
        for name, value in properties[0].items():
            if own[name] != value:
                raise InputError(
                    f"--workdir: the maps of {workdirs[0]} and {workdir} cannot be averaged, because {name}"
                    f" is {value!r} and {own[name]!r}: give runs that differ in other fields"
                )
    if len({workdir.resolve() for workdir in workdirs}) < len(workdirs):
        raise InputError(f"--workdir={','.join(map(str, workdirs))} names a run twice: give each once")
    first = members[0]
    fields = {field.name: getattr(first, field.name) for field in dataclasses.fields(first)}
    ensemble = EnsemblePredictor(**fields, others=tuple(members[1:]))
    digest = _digest(*(member.digest for member in opened)) if all(one.digest for one in opened) else ""
    return opened[0]._replace(method=ensemble, digest=digest)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
