import jax
import numpy as np
import pytest

from segjax.data.records import Record
from segjax.errors import InputError
from segjax.models.detectors import create_detector
from segjax.ops import boxes as box_ops
from segjax.ops.detection import HEAD_WEIGHTS
from segjax.segmentation import Segmentation
from segjax.tasks import host_boxes, rcnn_svm
from segjax.tasks.detection import DetectionTask
from segjax.tasks.rcnn_svm import ImageBoxes, describe_images, fit_predictor
from segjax.typing import IGNORE
from tests.models import quick
from tests.oracles import boxes as oracle

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


class Records:
    """Images of 32 x 40 pixels with one object of class 2 and one of class 1, and one image without any."""

    class_names = ("background", "one", "two")

    def __init__(self, *ignored):
        self.labels = np.zeros((32, 40), np.int32)
        self.labels[4:12, 6:16] = 1
        self.labels[20:30, 22:34] = 2
        self.semantic = np.array([0, 2, 1], np.int32)[self.labels]
        for window in ignored:
            self.semantic[window] = IGNORE

    def __len__(self):
        return 2

    def __getitem__(self, index):
        truth = Segmentation.from_labels(self.labels, classes=[2, 1], semantic=self.semantic)
        if index == 0:
            truth = Segmentation.from_labels(np.zeros_like(self.labels))
        pixels = np.random.default_rng(index).integers(0, 255, (32, 40, 1)).astype(np.uint8)
        return Record(str(index), "group", pixels, truth)


# One that fits an object nearly, one beside all, one across both, and one on the second object.
PROPOSALS = np.array([[6, 4, 16, 10], [0, 20, 10, 30], [10, 8, 26, 24], [22, 20, 34, 26]], np.float32)


def describe(*ignored, proposals=PROPOSALS, max_proposals=10, scale=1.0, roi_features=None, **settings):
    (described,) = describe_images(
        Records(*ignored),
        roi_features or (lambda images, boxes: boxes),
        propose=lambda image: proposals,
        max_proposals=max_proposals,
        scale=scale,
        **settings,
    )
    return described


def test_objects_come_first_and_then_the_proposals():
    actual = describe()
    expected = np.concatenate([[[6, 4, 16, 12], [22, 20, 34, 30]], PROPOSALS])
    np.testing.assert_array_equal(actual.boxes, expected)
    np.testing.assert_array_equal(actual.features, expected)
    overlap = np.array([[oracle.iou(box, other) for other in expected[:2]] for box in expected])
    np.testing.assert_allclose(actual.overlap[:, [2, 1]], overlap, rtol=1e-6)
    assert not actual.overlap[:, 0].any()
    np.testing.assert_allclose(actual.iou, overlap.max(1), rtol=1e-6)
    assert (actual.iou[:2] == 1).all()
    best = overlap.argmax(1)
    np.testing.assert_array_equal(actual.classes, np.array([2, 1])[best])
    np.testing.assert_array_equal(actual.target, expected[best])


def test_boxes_are_those_of_the_scaled_image():
    actual = describe(scale=0.5)
    expected = np.concatenate([[[6, 4, 16, 12], [22, 20, 34, 30]], PROPOSALS]) / 2
    np.testing.assert_array_equal(actual.boxes, expected)


def test_of_too_many_proposals_evenly_spaced_ones_are_described():
    many = np.arange(9, dtype=np.float32)[:, None] + np.array([0, 0, 3, 3], np.float32)
    np.testing.assert_array_equal(describe(proposals=many, max_proposals=5).boxes[2:], many[::2])


def test_negatives_on_ignored_pixels_are_left_out():
    # The centre of the second proposal, and of the first and the last, which are no negatives.
    actual = describe(np.s_[25, 5], np.s_[7, 11], np.s_[23, 28])
    np.testing.assert_array_equal(actual.boxes[2:], PROPOSALS[[0, 2, 3]])
    # A pixel beside the centre changes nothing.
    assert len(describe(np.s_[25, 6]).boxes) == 6
    # The centre of a box beyond the border is taken to its nearest pixel.
    outside = np.array([[38, 30, 60, 50]], np.float32)
    assert len(describe(np.s_[31, 39], proposals=outside).boxes) == 2
    assert len(describe(np.s_[30, 39], proposals=outside).boxes) == 3


def test_boxes_on_the_host_are_those_on_the_device():
    rng = np.random.default_rng(0)
    labels = (rng.integers(0, 9, (20, 30)) * rng.integers(0, 2, (20, 30))).astype(np.int32)
    labels[labels == 3] = 0
    actual, ids = host_boxes.boxes_from_labels(labels)
    boxes, present = box_ops.boxes_from_labels(labels, capacity=8)
    assert ids.tolist() == [1, 2, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(actual, np.asarray(boxes)[np.asarray(present)])
    first, second = (rng.uniform(0, 20, (count, 4)).astype(np.float32) for count in (50, 30))
    first[:2] = second[0]
    second[:, 2:] += second[:, :2]  # the others are partly inverted
    second[3, 2:] = second[3, :2]
    np.testing.assert_array_equal(host_boxes.pairwise_iou(first, second), box_ops.pairwise_iou(first, second))
    assert host_boxes.pairwise_iou(first, second).dtype == np.float32


def test_other_sizes_and_numbers_of_boxes_compile_nothing(caplog):
    with jax.log_compiles():
        for count in (1, 2, 3):
            describe(proposals=PROPOSALS[:count], scale=1 + count / 8)
    assert "Compiling" not in caplog.text


def test_shared_features_are_computed_once():
    model = create_detector(
        "fast_r_cnn", backbone="vgg11_fpn", width=0.05, pyramid_channels=4, head_channels=4, bins=3, classes=3
    )
    task = DetectionTask(model, 3)
    image = {"image": np.zeros((1, 64, 64, 1), np.float32)}
    params = quick.random_params(jax.eval_shape(task.init, jax.random.key(0), image))
    encode, pool = (quick.jit(function) for function in (task.encode, task.pooled_features))
    calls = []

    def counted(images):
        calls.append(images.shape)
        return encode(params, images)

    proposals = np.tile(PROPOSALS, (20, 1))
    actual = describe(
        proposals=proposals,
        max_proposals=80,
        encode=counted,
        roi_features=lambda features, boxes: pool(params, features, boxes),
    )
    assert calls == [(1, 256, 256, 1)]
    apart = quick.jit(task.roi_features)
    expected = describe(
        proposals=proposals,
        max_proposals=80,
        roi_features=lambda images, boxes: apart(params, images, boxes),
    )
    assert len(actual.features) == 82
    np.testing.assert_allclose(actual.features, expected.features, rtol=1e-5, atol=1e-6)
