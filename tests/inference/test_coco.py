import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segjax.inference import coco
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import paint_best_first
from segjax.segmentation.paste_masks import paste_masks

SHAPE = (40, 60)
NAMES = ("background", "nucleus", "micronucleus")


def outputs(masks=True):
    """Three objects that overlap; one reaches beyond the image, one has no pixel."""
    rng = np.random.default_rng(0)
    detections = {
        "boxes": np.array(
            [[5, 4, 25.5, 30], [10.25, 10, 30, 35], [50, 30, 66, 44], [1, 1, 9, 9]], np.float32
        ),
        "classes": np.array([1, 2, 1, 1]),
        "scores": np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        "shape": np.array(SHAPE),
    }
    if masks:
        detections["masks"] = rng.random((4, 14, 14)).astype(np.float32)
        detections["masks"][3] = 0
    return detections


def segmentation():
    labels = np.zeros(SHAPE, np.int32)
    labels[3:9, 5:20], labels[6:12, 2:7], labels[-1, -1] = 1, 2, 3
    return Segmentation.from_labels(labels, classes=np.array([1, 2, 1]), scores=np.array([0.5, 0.4, 0.3]))


def read(images, tmp_path):
    """What pycocotools makes of a file: the data set, and its annotations as results."""
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(coco.data_set(images, NAMES)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco_api = COCO(path)
        annotations = json.loads(path.read_text())["annotations"]
        results = coco_api.loadRes(annotations) if annotations else None
    return coco_api, results


def test_masks_of_objects_are_read_back(tmp_path):
    detections = outputs()
    images = [
        coco.Image("empty.png", (7, 5), []),
        coco.Image("cells.png", SHAPE, coco.detection_annotations(detections, threshold=0.5)),
    ]
    coco_api, results = read(images, tmp_path)
    assert [image["file_name"] for image in coco_api.loadImgs([1, 2])] == ["empty.png", "cells.png"]
    assert [category["name"] for category in coco_api.loadCats([1, 2])] == ["nucleus", "micronucleus"]
    assert not results.getAnnIds(imgIds=[1])
    annotations = results.loadAnns(results.getAnnIds(imgIds=[2]))
    # The fourth has no pixel.
    assert len(annotations) == 3
    for index, annotation in enumerate(annotations):
        one = slice(index, index + 1)
        expected = paint_best_first(
            paste_masks(detections["boxes"][one], detections["masks"][one], SHAPE), SHAPE
        )
        np.testing.assert_array_equal(results.annToMask(annotation), expected)
        assert annotation["score"] == pytest.approx(detections["scores"][index])
        assert annotation["category_id"] == detections["classes"][index]
        # As results, annotations get the area of their box.
        assert coco_api.loadAnns(annotation["id"])[0]["area"] == expected.sum()
    assert annotations[0]["bbox"] == [5, 4, 20.5, 26]
    # Masks are complete, also where another one lies above.
    assert (results.annToMask(annotations[0]) & results.annToMask(annotations[1])).any()


def test_boxes_alone_have_no_masks(tmp_path):
    annotations = coco.detection_annotations(outputs(masks=False), threshold=0.5)
    assert len(annotations) == 4
    assert all("segmentation" not in annotation for annotation in annotations)
    _, results = read([coco.Image("cells.png", SHAPE, annotations)], tmp_path)
    assert results.loadAnns([3])[0]["bbox"] == [50, 30, 16, 14]


def test_label_maps_are_read_back(tmp_path):
    truth = segmentation()
    coco_api, results = read([coco.Image("cells.png", SHAPE, coco.segmentation_annotations(truth))], tmp_path)
    for source in (coco_api, results):
        annotations = source.loadAnns(source.getAnnIds())
        labels = sum(number * source.annToMask(a).astype(int) for number, a in enumerate(annotations, 1))
        np.testing.assert_array_equal(labels, truth.labels)
        assert [annotation["category_id"] for annotation in annotations] == [1, 2, 1]
    assert annotations[2]["bbox"] == [59, 39, 1, 1]


@pytest.mark.parametrize("corner", [(0, 0), (-3, -3)], ids=["first pixel", "last pixel"])
def test_run_lengths_are_those_of_pycocotools(corner):
    labels = np.zeros(SHAPE, np.int32)
    labels[corner[0] :, corner[1] :][:3, :3] = 1
    (annotation,) = coco.segmentation_annotations(Segmentation.from_labels(labels))
    expected = coco_mask.encode(np.asfortranarray(labels.astype(np.uint8)))
    assert annotation["segmentation"]["counts"] == expected["counts"].decode()


def test_an_image_without_instances_is_part_of_the_data_set(tmp_path):
    nothing = Segmentation.from_labels(np.zeros(SHAPE, np.int32))
    coco_api, _ = read([coco.Image("dark.png", SHAPE, coco.segmentation_annotations(nothing))], tmp_path)
    assert not coco_api.getAnnIds()
