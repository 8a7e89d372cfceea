"""Segments a user's own images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from segjax.classical.measurements import Table, measure
from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import list_images, read_image
from segjax.errors import InputError
from segjax.experiment.methods import OpenedMethod, open_method, open_run
from segjax.files import write_json
from segjax.inference import coco
from segjax.inference.exports import write_label_images
from segjax.inference.predictor import Detector
from segjax.inference.tables import write_table
from segjax.report.overlays import draw_outlines, legend, to_display_rgb
from segjax.segmentation import Segmentation


def select_method(workdir: Path | None, config: ConfigDict | None) -> OpenedMethod:
    """Opens the method of a trained run, or of a config that needs no training.

    Raises:
      InputError: unless exactly one of the two is given, and it names one method.
    """
    if workdir is not None and config is None:
        return open_run(workdir)
    if workdir is None and config is not None:
        return open_method(config)
    raise InputError("give either --workdir=RUN, a trained run, or --config=FILE, a classical method")


def predict(
    selected: OpenedMethod,
    images: Path,
    out: Path,
    *,
    measured: bool = False,
    pixel_size: float | None = None,
    as_coco: bool = False,
) -> Iterator[tuple[Path, int]]:
    """Segments every image of a folder.

    Args:
      selected: the result of `select_method`.
      images: a folder, or one image.
      out: folder in which `<stem>_labels.tif`, `<stem>_classes.tif` and `<stem>_overlay.png` are written.
      measured: whether to measure the instances: `<stem>_measurements.csv`, and of all images together
        `measurements.csv` and `measurements.parquet`.
      pixel_size: side of a pixel in micrometres, for the measurements; that of each file if None.
      as_coco: whether to write `predictions.json`, all instances in COCO's format: of a detector its boxes
        and full masks, of other methods the instances of the label map.

    Yields:
      Each finished image, and its number of instances.

    Raises:
      InputError: after all others are finished, if an image could not be read.
    """
    paths = list_images(images)
    _check_stems(paths, images)
    out.mkdir(parents=True, exist_ok=True)
    unreadable: list[InputError] = []
    tables: list[Table] = []
    coco_images: list[coco.Image] = []
    for path in tqdm(paths, unit="image", desc="predict", dynamic_ncols=True):
        try:
            image = _read(path, selected.channels)
        except InputError as error:
            unreadable.append(error)
            continue
        segmentation, annotations = _segment(selected, image, as_coco)
        write_label_images(segmentation, out / path.stem)
        names = selected.class_names or _default_names(segmentation.classes.max(initial=1))
        picture = legend(draw_outlines(to_display_rgb(image), segmentation), names)
        Image.fromarray(picture).save(out / f"{path.stem}_overlay.png")
        if measured:
            size = read_pixel_size(path) if pixel_size is None else pixel_size
            table = measure(image, segmentation, pixel_size=size, class_names=names)
            write_table([table], out / f"{path.stem}_measurements.csv")
            tables.append({"image": np.full(segmentation.num_instances, path.name)} | table)
        coco_images.append(coco.Image(path.name, segmentation.shape, annotations))
        yield path, segmentation.num_instances
    if as_coco:
        highest = max((a["category_id"] for image in coco_images for a in image.annotations), default=1)
        names = selected.class_names or _default_names(highest)
        write_json(out / "predictions.json", coco.data_set(coco_images, names))
    if measured:
        for suffix in ("csv", "parquet"):
            write_table(tables, out / f"measurements.{suffix}")
    if unreadable:
        raise InputError(f"{len(unreadable)} of {len(paths)} images could not be segmented: {unreadable[0]}")


def _segment(
    selected: OpenedMethod, image: np.ndarray, as_coco: bool
) -> tuple[Segmentation, list[coco.Annotation]]:
    method = selected.method
    if as_coco and isinstance(method, Detector):
        detections = method.detect(image)
        annotations = coco.detection_annotations(detections, threshold=selected.mask_threshold)
        return method.segment(detections), annotations
    segmentation = method(image)
    return segmentation, coco.segmentation_annotations(segmentation) if as_coco else []


def _default_names(highest: int) -> list[str]:
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
