"""Segments a user's own images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from segjax.classical.classifier import load
from segjax.classical.measurements import Table, measure
from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import list_images, read_image
from segjax.errors import InputError
from segjax.experiment.build import open_workdir
from segjax.experiment.classical import make_classical
from segjax.experiment.classification import with_classes
from segjax.experiment.workdir import read_config, read_metadata
from segjax.files import write_json
from segjax.inference import coco
from segjax.inference.exports import write_label_images
from segjax.inference.predictor import Predictor
from segjax.inference.tables import write_table
from segjax.report.overlays import legend, overlay
from segjax.segmentation import Method, Segmentation


class SelectedMethod(NamedTuple):
    """A method and what goes with it.

    Attributes:
      method: segments an image.
      class_names: None if its classes have no names.
      channels: that it expects, None for any number.
      mask_threshold: probability from which a pixel belongs to an object, where masks have any.
    """

    method: Method
    class_names: Sequence[str] | None
    channels: int | None
    mask_threshold: float = 0.5


def select_method(workdir: Path | None, config: ConfigDict | None) -> SelectedMethod:
    """The method of a trained run, or of a config that needs no training.

    Raises:
      InputError: unless exactly one of them names a method.
    """
    if (workdir is None) == (config is None):
        raise InputError(
            "give either --workdir=RUN, a trained run, or --config=FILE, a method without weights"
        )
    if workdir is not None:
        config, description = read_config(workdir), read_metadata(workdir)
        predictor, _ = open_workdir(workdir, config, description)
        threshold = config.task.get("mask_threshold", 0.5)
        return SelectedMethod(predictor, description.class_names, description.channels, threshold)
    if config is None or "methods" not in config:
        raise InputError(
            "--config names a network, which has to be trained first: give --workdir=RUN of scripts/train.py,"
            " or a method without weights such as configs/classical.py"
        )
    if len(config.methods) != 1:
        raise InputError(
            f"--config names {len(config.methods)} methods: choose one, as configs/classical.py:method=kmeans"
        )
    (name,) = config.methods
    method = make_classical(name, config.methods[name])
    if not config.classifier.file:
        return SelectedMethod(method, None, None)
    classifier = load(config.classifier.file)
    return SelectedMethod(with_classes(method, classifier), classifier.class_names, None)


def predict(
    chosen: SelectedMethod,
    images: Path,
    out: Path,
    *,
    measured: bool = False,
    pixel_size: float | None = None,
    as_coco: bool = False,
) -> Iterator[tuple[Path, int]]:
    """Segments every image of a folder.

    Args:
      chosen: from `select_method`.
      images: a folder, or one image.
      out: where `<stem>_labels.tif`, `<stem>_classes.tif` and `<stem>_overlay.png` are written.
      measured: whether to measure the instances: `<stem>_measurements.csv`, and of all images together
        `measurements.csv` and `measurements.parquet`.
      pixel_size: side of a pixel in micrometres, for the measurements; what a file says of itself if None.
      as_coco: whether to write `predictions.json`, all instances in COCO's form: of networks that find
        objects with their own boxes and whole masks, of others those of the label map.

    Yields:
      Each image that is done, and how many instances it has.

    Raises:
      InputError: after all others are done, if an image could not be read.
    """
    paths = list_images(images)
    _check_stems(paths, images)
    out.mkdir(parents=True, exist_ok=True)
    unreadable: list[InputError] = []
    tables: list[Table] = []
    described: list[coco.Image] = []
    for path in tqdm(paths, unit="image", desc="predict", dynamic_ncols=True):
        try:
            image = _read(path, chosen.channels)
        except InputError as error:
            unreadable.append(error)
            continue
        segmentation, annotations = _segment(chosen, image, as_coco)
        write_label_images(segmentation, out / path.stem)
        names = chosen.class_names or _unnamed(segmentation.classes.max(initial=1))
        picture = legend(overlay(image, segmentation, names), names)
        Image.fromarray(picture).save(out / f"{path.stem}_overlay.png")
        if measured:
            size = read_pixel_size(path) if pixel_size is None else pixel_size
            table = measure(image, segmentation, pixel_size=size, class_names=names)
            write_table([table], out / f"{path.stem}_measurements.csv")
            tables.append({"image": np.full(segmentation.num_instances, path.name)} | table)
        described.append(coco.Image(path.name, segmentation.shape, annotations))
        yield path, segmentation.num_instances
    if as_coco:
        highest = max((a["category_id"] for image in described for a in image.annotations), default=1)
        write_json(
            out / "predictions.json", coco.data_set(described, chosen.class_names or _unnamed(highest))
        )
    if measured:
        for suffix in ("csv", "parquet"):
            write_table(tables, out / f"measurements.{suffix}")
    if unreadable:
        raise InputError(f"{len(unreadable)} of {len(paths)} images could not be segmented: {unreadable[0]}")


def _segment(
    chosen: SelectedMethod, image: np.ndarray, as_coco: bool
) -> tuple[Segmentation, list[coco.Annotation]]:
    if as_coco and isinstance(chosen.method, Predictor) and chosen.method.finds_objects:
        outputs = chosen.method.outputs(image)
        annotations = coco.of_objects(outputs, threshold=chosen.mask_threshold)
        return chosen.method.segment(outputs), annotations
    segmentation = chosen.method(image)
    return segmentation, coco.of_segmentation(segmentation) if as_coco else []


def _unnamed(highest: int) -> list[str]:
    return [f"class {index}" for index in range(1 + max(1, highest))]


def _read(path: Path, channels: int | None) -> np.ndarray:
    image = read_image(path)
    if channels is not None and image.shape[-1] != channels:
        if channels == 1 and image.shape[-1] == 3 and (image == image[..., :1]).all():
            return image[..., :1]  # grey, saved as colour
        raise InputError(
            f"{path} has {image.shape[-1]} channels, but the network was trained on {channels}: export the"
            " image with those channels"
        )
    return image


def _check_stems(paths: Sequence[Path], folder: Path) -> None:
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(
                f"{path.name} and {stems[path.stem].name} in {folder} would write the same files: rename one"
            )
        stems[path.stem] = path
