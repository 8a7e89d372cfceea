"""Instances in COCO's format: a box, a mask and a score for each; masks may overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from segjax.segmentation import Segmentation
from segjax.segmentation.paste_masks import paste_mask
from segjax.typing import Outputs

Annotation = dict[str, Any]


class Image(NamedTuple):
    """An image and its instances.

    Attributes:
      name: file name of the image.
      shape: `(H, W)`.
      annotations: the result of `detection_annotations` or `segmentation_annotations`.
    """

    name: str
    shape: tuple[int, int]
    annotations: Sequence[Annotation]


def detection_annotations(outputs: Outputs, *, threshold: float) -> list[Annotation]:
    """Converts the detections of one image, each with its full mask.

    Args:
      outputs: the result of `Detector.detect`.
      threshold: minimum probability at which a pixel belongs to an object.

    Returns:
      One annotation per object, best first. If the network predicts no masks, they have no "segmentation".
      Objects with an empty mask are left out.
    """
    boxes = np.asarray(outputs["boxes"], np.float32)
    height, width = (int(side) for side in outputs["shape"])
    annotations = []
    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        annotation: Annotation = {
            "category_id": int(outputs["classes"][index]),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(outputs["scores"][index]),
            "area": (x1 - x0) * (y1 - y0),
        }
        if "masks" in outputs:
            mask = np.asarray(outputs["masks"][index])
            rows, columns = _mask_pixels(boxes[index], mask, (height, width), threshold)
            if not len(rows):
                continue
            annotation |= _encoded(rows, columns, (height, width))
        annotations.append(annotation)
    return annotations


def segmentation_annotations(segmentation: Segmentation) -> list[Annotation]:
    """Converts the instances of a label map, in the order of their ids; they do not overlap."""
    annotations = []
    for index, (x0, y0, x1, y1) in enumerate(segmentation.boxes.tolist()):
        rows, columns = np.nonzero(segmentation.labels[y0:y1, x0:x1] == index + 1)
        annotations.append(
            {
                "category_id": int(segmentation.classes[index]),
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "score": float(segmentation.scores[index]),
                **_encoded(rows + y0, columns + x0, segmentation.shape),
            }
        )
    return annotations


def data_set(images: Iterable[Image], class_names: Sequence[str]) -> dict[str, Any]:
    """Makes a COCO data set of predictions, ready for JSON.

    Args:
      images: get the ids 1, 2, ... in their order.
      class_names: K names, background first; the others become the categories 1 to K - 1.

    Returns:
      "images", "categories" and "annotations", as `pycocotools.coco.COCO` reads them. `COCO.loadRes` takes
      the list of annotations alone.
    """
    image_entries: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    for image_id, image in enumerate(images, start=1):
        height, width = image.shape
        image_entries.append({"id": image_id, "file_name": image.name, "height": height, "width": width})
        for annotation in image.annotations:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0}
            annotations.append(ids | annotation)
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names) if index > 0]
    return {"images": image_entries, "categories": categories, "annotations": annotations}


def _mask_pixels(
    box: np.ndarray, mask: np.ndarray, shape: tuple[int, int], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of the pixels of a mask."""
    # Relative to a pixel near the box, where float32 is more precise. A mask extends beyond its box by one of
    # its own pixels, see `paste_masks`.
    margin = (box[2:] - box[:2]) / mask.shape[-1] + 1
    left, top = np.clip(np.floor(box[:2] - margin), 0, shape[::-1]).astype(int)
    moved = box - np.array([left, top, left, top], np.float32)
    cutout = paste_mask(moved, mask, (shape[0] - top, shape[1] - left), threshold=threshold)
    y, x = np.nonzero(cutout.mask)
    return y + cutout.top + top, x + cutout.left + left


def _encoded(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Annotation:
    """Returns area and compressed run lengths, column by column, of the pixels of a mask."""
    height, width = shape
    positions = np.sort(columns * height + rows)
    gaps = np.flatnonzero(np.diff(positions) > 1)
    starts, ends = positions[np.append(0, gaps + 1)], positions[np.append(gaps, len(positions) - 1)] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    runs = runs if runs[-1] else runs[:-1]  # pycocotools writes no empty run at the end
    packed = coco_mask.frPyObjects({"counts": runs.tolist(), "size": [height, width]}, height, width)
    return {
        "area": float(len(positions)),
        "segmentation": {"size": [height, width], "counts": packed["counts"].decode("ascii")},
    }
