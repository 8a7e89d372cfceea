"""Instances in COCO's form: a box, a mask and a score for each, and masks may overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from segjax.segmentation import Segmentation
from segjax.segmentation.paste_masks import paste_masks
from segjax.typing import Outputs

Annotation = dict[str, Any]


class Image(NamedTuple):
    """An image and what was found in it.

    Attributes:
      name: of its file.
      shape: `(H, W)`.
      annotations: from `of_objects` or `of_segmentation`.
    """

    name: str
    shape: tuple[int, int]
    annotations: Sequence[Annotation]


def of_objects(outputs: Outputs, *, threshold: float) -> list[Annotation]:
    """The annotations of the objects that a network found, each with its whole mask.

    Args:
      outputs: of `Predictor.outputs`, for one image.
      threshold: a pixel belongs to an object whose probability reaches it.

    Returns:
      One for each object, best first; without "segmentation" if the network draws no masks. Objects whose
      mask has no pixel are left out.
    """
    boxes = np.asarray(outputs["boxes"], np.float32)
    masks = np.asarray(outputs["masks"]) if "masks" in outputs else None
    height, width = (int(side) for side in outputs["shape"])
    found = []
    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        annotation: Annotation = {
            "category_id": int(outputs["classes"][index]),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(outputs["scores"][index]),
            "area": (x1 - x0) * (y1 - y0),
        }
        if masks is not None:
            pixels = _pixels(boxes[index], masks[index], (height, width), threshold=threshold)
            if not len(pixels[0]):
                continue
            annotation |= _mask(*pixels, (height, width))
        found.append(annotation)
    return found


def of_segmentation(segmentation: Segmentation) -> list[Annotation]:
    """The annotations of the instances of a label map, in the order of their ids; none of them overlap."""
    found = []
    for index, place in enumerate(ndimage.find_objects(segmentation.labels)):
        if place is None:
            continue
        down, along = place
        rows, columns = np.nonzero(segmentation.labels[place] == index + 1)
        box = (along.start, down.start, along.stop - along.start, down.stop - down.start)
        found.append(
            {
                "category_id": int(segmentation.classes[index]),
                "bbox": [float(number) for number in box],
                "score": float(segmentation.scores[index]),
                **_mask(rows + down.start, columns + along.start, segmentation.shape),
            }
        )
    return found


def data_set(images: Iterable[Image], class_names: Sequence[str]) -> Mapping[str, Any]:
    """A whole COCO data set of predictions, ready for JSON.

    Args:
      images: get the ids 1, 2, ... in their order.
      class_names: background first; the others are the categories, by their index.

    Returns:
      "images", "categories" and "annotations", which `pycocotools.coco.COCO` reads as they are; the
      annotations alone, a list, are what `COCO.loadRes` takes as results.
    """
    described: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    for number, image in enumerate(images, start=1):
        height, width = image.shape
        described.append({"id": number, "file_name": image.name, "height": height, "width": width})
        for annotation in image.annotations:
            of_image = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}
            annotations.append(of_image | annotation)
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names) if index > 0]
    return {"images": described, "categories": categories, "annotations": annotations}


def _pixels(
    box: np.ndarray, mask: np.ndarray, shape: tuple[int, int], *, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a mask, for the cost of its box."""
    low, high = box[:2], box[2:]
    # A mask reaches beyond its box by one of its pixels, see `paste_masks`.
    reach = (high - low) / mask.shape[-1] + 1
    first = np.clip(np.floor(low - reach), 0, shape[::-1]).astype(int)
    last = np.clip(np.ceil(high + reach), first, shape[::-1]).astype(int)
    width, height = last - first
    moved = box - np.tile(first, 2).astype(np.float32)
    inside = paste_masks(moved[None], mask[None], (int(height), int(width)), threshold=threshold)
    rows, columns = np.nonzero(inside)
    return rows + first[1], columns + first[0]


def _mask(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Annotation:
    """Area and compressed run lengths, column by column, of the pixels of a mask."""
    height, width = shape
    places = np.sort(columns * height + rows)
    gaps = np.flatnonzero(np.diff(places) > 1)
    begins, ends = places[np.append(0, gaps + 1)], places[np.append(gaps, len(places) - 1)] + 1
    edges = np.stack([begins, ends], axis=1).ravel()
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    packed = coco_mask.frPyObjects({"counts": runs.tolist(), "size": [height, width]}, height, width)
    return {
        "area": float(len(places)),
        "segmentation": {"size": [height, width], "counts": packed["counts"].decode("ascii")},
    }
