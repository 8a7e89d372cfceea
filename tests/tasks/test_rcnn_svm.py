import numpy as np
import pytest

from segjax.errors import InputError
from segjax.ops import boxes as box_ops
from segjax.ops.detection import HEAD_WEIGHTS
from segjax.tasks import rcnn_svm
from segjax.tasks.rcnn_svm import ImageBoxes, fit_predictor

DEPTH = 12


def image(seed, *, classes=(1, 2), count=60):
    """Boxes whose features say their class in one direction each, and how far they miss in two more."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes) + 1, count)
    of = np.array([0, *classes])[truth]
    boxes = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([boxes, boxes + rng.uniform(8, 20, (count, 2))], axis=1).astype(np.float32)
    shift = np.where((of > 0)[:, None], rng.uniform(-0.1, 0.1, (count, 2)), 0)
    exact = rng.random(count) < 0.3
    shift[exact] = 0
    sides = boxes[:, 2:] - boxes[:, :2]
    target = (boxes + np.tile(shift * sides, 2)).astype(np.float32)
    features = rng.normal(0, 0.05, (count, DEPTH))
    features[np.arange(count), of] += 1
    features[:, 6:8] += 10 * shift
    iou = np.where(of > 0, np.where(exact, 1, 0.8), 0.1)
    overlap = np.where(of[:, None] == np.arange(3)[None], iou[:, None], 0.05)
    return ImageBoxes(features.astype(np.float32), boxes, target, iou, np.where(of > 0, of, 1), overlap)


def predicted(predictor, features):
    return features @ predictor["kernel"] + predictor["bias"]


@pytest.fixture(scope="module")
def fitted():
    return fit_predictor([image(seed) for seed in range(20)], num_classes=3, seed=0)


def test_margins_tell_classes_apart(fitted):
    new = image(100)
    margins = predicted(fitted["logits"], new.features)
    np.testing.assert_array_equal(margins[:, 0], 0)
    for index in (1, 2):
        own = (new.iou > 0.5) & (new.classes == index)
        assert (margins[own, index] > 0).mean() > 0.95
        assert (margins[~own, index] < 0).mean() > 0.95


def test_boxes_are_moved_towards_their_objects(fitted):
    new = image(101, count=200)
    deltas = predicted(fitted["deltas"], new.features).reshape(-1, 3, 4)
    near = (new.iou > 0.5) & (new.iou < 1)
    moved = box_ops.decode(deltas[near, new.classes[near]], new.boxes[near], weights=HEAD_WEIGHTS)
    before = np.abs(new.boxes[near] - new.target[near]).mean()
    assert np.abs(np.asarray(moved) - new.target[near]).mean() < 0.6 * before


def test_hard_negatives_are_found_among_many_easy_ones():
    easy = image(0, count=3000)
    # Rare boxes that nearly look like class 1, of which a draw of fifty has none or one.
    hard = np.flatnonzero(easy.iou < 0.5)[::40]
    easy.features[hard, 1] += 0.7
    few = fit_predictor([easy], num_classes=3, seed=0)
    margins = predicted(few["logits"], easy.features)[hard, 1]
    assert (margins < 0).mean() > 0.9


def test_a_class_without_objects_is_never_found():
    layers = fit_predictor([image(seed, classes=(1,)) for seed in range(3)], num_classes=3, seed=0)
    assert (predicted(layers["logits"], image(9).features)[:, 2] < -1000).all()


def test_without_objects_there_is_nothing_to_fit():
    nothing = image(0)._replace(iou=np.zeros(60))
    with pytest.raises(InputError, match="no image has an object to fit SVMs to"):
        fit_predictor([nothing], num_classes=3, seed=0)


def test_is_kept_with_its_step(tmp_path, fitted):
    rcnn_svm.save(fitted, tmp_path, 7)
    loaded = rcnn_svm.load({"other": 1}, tmp_path, 7)
    np.testing.assert_array_equal(loaded["box_predictor"]["logits"]["kernel"], fitted["logits"]["kernel"])
    with pytest.raises(InputError, match="belongs to step 7, but the checkpoint is of step 8: delete"):
        rcnn_svm.load({}, tmp_path, 8)
    assert rcnn_svm.stored_step(tmp_path, network="a") == 7  # earlier versions stored no digest
    rcnn_svm.save(fitted, tmp_path, 7, network="a")
    assert rcnn_svm.stored_step(tmp_path) == rcnn_svm.stored_step(tmp_path, network="a") == 7
    assert rcnn_svm.stored_step(tmp_path, network="b") is None
    assert "box_predictor" in rcnn_svm.load({}, tmp_path, 7, network="a")
    with pytest.raises(InputError, match="belongs to other parameters of step 7: delete"):
        rcnn_svm.load({}, tmp_path, 7, network="b")
    (tmp_path / rcnn_svm.FILE).write_bytes(b"nothing")
    with pytest.raises(InputError, match="is damaged"):
        rcnn_svm.load({}, tmp_path, 7)
    (tmp_path / rcnn_svm.FILE).unlink()
    with pytest.raises(InputError, match="does not exist yet"):
        rcnn_svm.load({}, tmp_path, 7)
