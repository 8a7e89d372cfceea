import dataclasses
import functools

import jax
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.detectors import METHODS, create_detector
from segjax.ops.boxes import boxes_from_labels
from segjax.ops.detection import DetectConfig, ProposeConfig
from segjax.ops.matching import IGNORED, NEGATIVE, POSITIVE
from segjax.tasks import detection_losses
from segjax.tasks.detection import DetectionTask
from segjax.tasks.detection_config import DetectionConfig, SamplingConfig
from segjax.tasks.detection_losses import make_targets, mask_loss
from tests.models import quick
from tests.oracles import roi

SIDE = 64
CAPACITY = 6
CONFIG = DetectionConfig(
    propose=ProposeConfig(pre_nms=20, post_nms=16),
    anchors=SamplingConfig(0.7, 0.3, batch_size=16, positive_fraction=0.5),
    rois=SamplingConfig(batch_size=8),
    detect=DetectConfig(score_threshold=0.05, candidates=20, max_detections=10),
    min_area=1,
)


def batch(seed=0, count=4, size=2):
    """Discs on a dark ground; the second image of a batch has `count` of them, too."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((size, SIDE, SIDE), np.int32)
    for image in labels:
        for index in range(1, count + 1):
            centre, radius = rng.uniform(6, SIDE - 6, 2), rng.uniform(3, 7)
            image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = index
    classes = np.zeros((size, CAPACITY), np.int32)
    classes[:, :count] = 1 + np.arange(count) % 2
    proposals = np.zeros((size, 20, 4), np.float32)
    corners = rng.uniform(0, SIDE - 10, (size, 16, 2))
    proposals[:, :16] = np.concatenate([corners, corners + rng.uniform(4, 10, (size, 16, 2))], axis=-1)
    return {
        "image": (labels > 0)[..., None] + rng.normal(0, 0.1, (*labels.shape, 1)).astype(np.float32),
        "labels": labels,
        "semantic": np.where(labels > 0, 1, 0),
        "classes": classes,
        "proposals": proposals,
        "proposals_valid": np.arange(20)[None].repeat(size, 0) < 16,
    }


@functools.cache
def detector(method):
    return create_detector(
        method=method,
        backbone="vgg11_fpn",
        width=0.05,
        pyramid_channels=8,
        head_channels=8,
        mask_channels=8,
        bins=3,
        anchor_sizes=((6,), (12,), (24,), (48,)),
        aligned=True,
        crop_side=16,
        crop_context=2,
        classes=3,
    )


@functools.cache
def task(method, detect=CONFIG.detect, **settings):
    return DetectionTask(detector(method), 3, dataclasses.replace(CONFIG, detect=detect, **settings))


@functools.cache
def params(method):
    return quick.random_params(jax.eval_shape(task(method).init, jax.random.key(0), batch()))


@functools.cache
def gradient(method):
    return quick.jit(jax.value_and_grad(task(method).loss, has_aux=True))


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("method", METHODS)
def test_every_part_learns(method):
    (total, terms), slopes = gradient(method)(params(method), batch(), jax.random.key(0))
    expected = {"classes", "boxes", "recall"}
    expected |= {"objectness", "proposals"} if method in ("faster_r_cnn", "mask_r_cnn") else set()
    expected |= {"masks"} if method == "mask_r_cnn" else set()
    assert set(terms) == expected
    assert total == pytest.approx(float(sum(terms[name] for name in expected - {"recall"})), rel=1e-5)
    assert finite((total, slopes))
    slopes.pop("input")
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(slopes)
        if not np.abs(leaf).max() > 0
    ]
    # The small boxes of the batch leave coarse maps of the pyramid to the RPN.
    unused = "pyramid']['output" if method == "fast_r_cnn" else "nothing"
    assert not [name for name in still if "kernel" in name and unused not in name]


DAMAGED = {
    "an empty image": {
        "labels": np.zeros((2, SIDE, SIDE), np.int32),
        "classes": np.zeros((2, CAPACITY), np.int32),
    },
    "gaps in the ids": {"labels": np.where(batch()["labels"] == 2, 0, batch()["labels"])},
    "ids beyond the capacity": {"labels": batch()["labels"] * 3},
    "one pixel": {"labels": np.pad(np.ones((2, 1, 1), np.int32), ((0, 0), (20, SIDE - 21), (9, SIDE - 10)))},
    "instances in pieces": {
        "labels": np.random.default_rng(0).integers(0, 4, (2, SIDE, SIDE)).astype(np.int32)
    },
    "nothing to be judged": {"semantic": np.full((2, SIDE, SIDE), -1)},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_losses_stay_finite(damage):
    method = "mask_r_cnn"
    (total, _), slopes = gradient(method)(params(method), batch() | DAMAGED[damage], jax.random.key(0))
    assert finite((total, slopes))


@pytest.mark.parametrize("box", [(9, 9, 2, 2), (5, 5, 5, 5), (400, 400, 420, 420), (np.nan, 0, 9, 9)])
def test_impossible_proposals_change_nothing(box):
    inputs = batch()
    expected, _ = gradient("fast_r_cnn")(params("fast_r_cnn"), inputs, jax.random.key(0))
    damaged = inputs["proposals"].copy(), inputs["proposals_valid"].copy()
    # In the place of padding, so that the same RoIs are drawn if it is left out.
    damaged[0][:, 16] = box
    outside = box[0] == 400
    damaged[1][:, 16] = not outside
    (total, _), slopes = gradient("fast_r_cnn")(
        params("fast_r_cnn"),
        inputs | {"proposals": damaged[0], "proposals_valid": damaged[1]},
        jax.random.key(0),
    )
    assert total == expected[0]
    assert finite(slopes)


def test_objects_beside_the_image_are_all_that_counts():
    # Of an image without objects, boxes and masks have nothing to say.
    (_, terms), _ = gradient("mask_r_cnn")(
        params("mask_r_cnn"), batch() | DAMAGED["an empty image"], jax.random.key(0)
    )
    assert terms["boxes"] == terms["masks"] == terms["proposals"] == terms["recall"] == 0
    assert terms["classes"] > 0


def test_what_is_not_to_be_judged_is_no_background():
    """Without objects, and where nothing is judged, no box is drawn."""
    for method in ("mask_r_cnn", "fast_r_cnn"):
        nothing = DAMAGED["an empty image"] | DAMAGED["nothing to be judged"]
        (total, terms), slopes = gradient(method)(params(method), batch() | nothing, jax.random.key(0))
        assert total == 0
        assert not any(terms.values())
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes))


def test_only_negatives_whose_centres_are_ignored_are_left_out():
    ignore = np.zeros((20, 30), bool)
    ignore[10:, 15:] = True
    boxes = np.array(
        [
            [14, 8, 17, 12],  # the centre is the first ignored pixel, (10, 15)
            [12, 8, 16, 12],  # one pixel to its left
            [14, 6, 17, 12],  # one above it
            [15, 10, 60, 40],  # centre beyond the border, next to ignored pixels
            [-30, -30, 0, 0],
            [14, 8, 17, 12],
            [14, 8, 17, 12],
        ],
        np.float32,
    )
    states = np.array([NEGATIVE] * 5 + [POSITIVE, IGNORED])
    actual = detection_losses._ignore_centres(states, boxes, ignore)
    expected = [IGNORED, NEGATIVE, NEGATIVE, IGNORED, NEGATIVE, POSITIVE, IGNORED]
    assert np.asarray(actual).tolist() == expected


@pytest.mark.parametrize(("kept", "expected"), [(4, 1), (3, 0.75), (0, 0)])
def test_recall_is_the_fraction_of_objects_with_a_proposal(kept, expected):
    inputs = batch()
    objects, present = jax.vmap(lambda labels: boxes_from_labels(labels, capacity=4))(inputs["labels"])
    assert np.asarray(present).all()
    proposals, valid = np.zeros((2, 20, 4), np.float32), np.zeros((2, 20), bool)
    # Those that are not valid do not count.
    proposals[:, 3:7] = np.asarray(objects)
    valid[:, 3 : 3 + kept] = True
    (_, terms), _ = gradient("fast_r_cnn")(
        params("fast_r_cnn"), inputs | {"proposals": proposals, "proposals_valid": valid}, jax.random.key(0)
    )
    assert terms["recall"] == pytest.approx(expected)


@pytest.mark.parametrize("aligned", [True, False])
def test_the_loss_of_masks_is_that_of_the_objects_part_of_each_bin(aligned):
    labels = batch()["labels"][:1]
    boxes = np.array([[[10, 12, 30, 40], [33.3, 5.1, 60.7, 28.9], [-4, 50, 20, 70]]], np.float32)
    matched = np.array([[0, 1, 3]])
    logits = np.random.default_rng(0).normal(0, 2, (1, 3, 4, 4)).astype(np.float32)
    targets = jax.vmap(make_targets)(labels, np.array([[1, 2, 1, 2]]), np.zeros_like(labels))
    positive = np.array([[True, True, False]])
    actual = quick.jit(functools.partial(mask_loss, aligned=aligned))(
        logits, boxes, matched, positive, targets
    )
    losses = []
    for values, box, index in zip(logits[0, :2].astype(float), boxes[0], matched[0], strict=False):
        mask = (labels[0] == index + 1).astype(float)[..., None]
        covered = roi.roi_align(mask, box, bins=4, scale=1, sampling_ratio=0, aligned=aligned)[..., 0]
        assert 0 < covered.mean() < 1
        probability = 1 / (1 + np.exp(-values))
        losses.append(-(covered * np.log(probability) + (1 - covered) * np.log(1 - probability)).mean())
    assert actual == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_same_key_draws_the_same():
    losses = [
        gradient("mask_r_cnn")(params("mask_r_cnn"), batch(), jax.random.key(seed))[0][0]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


@functools.cache
def predict(method):
    return quick.jit(task(method).predict)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_become_a_segmentation(method):
    inputs = batch()
    proposals = (
        (inputs["proposals"], inputs["proposals_valid"]) if "fast" in method or method == "r_cnn" else None
    )
    detected = predict(method)(params(method), inputs["image"], np.array([SIDE, SIDE], np.float32), proposals)
    assert detected["boxes"].shape == (2, 10, 4)
    first = {name: np.asarray(values)[0] for name, values in detected.items()}
    assert ("masks" in first) == (method == "mask_r_cnn")
    result = task(method).segment(first | {"shape": np.array([SIDE, SIDE])})
    assert result.shape == (SIDE, SIDE)
    assert 0 < result.num_instances <= first["valid"].sum()
    assert (np.diff(result.scores) <= 0).all()


def test_many_crops_are_encoded_in_chunks():
    inputs = batch()
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, SIDE - 20, (2, 70, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 20, (2, 70, 2))], axis=-1).astype(np.float32)
    weights, images = params("r_cnn"), [inputs["image"]]
    whole = quick.jit(lambda p, b: detector("r_cnn").apply({"params": p}, images, b, method="predict_boxes"))
    chunks = quick.jit(lambda p, b: task("r_cnn")._predict_boxes(p, images, b))
    for actual, expected in zip(chunks(weights, boxes), whole(weights, boxes), strict=True):
        # All of them differ, so that none can be in the place of another.
        assert len(np.unique(np.asarray(expected).reshape(140, -1), axis=0)) == 140
        np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())


def test_masks_suppress_masks():
    outputs = {
        "boxes": np.array([[4, 4, 20, 20], [4, 4, 20, 20], [30, 30, 40, 40]], np.float32),
        "classes": np.array([1, 2, 1]),
        "scores": np.array([0.9, 0.8, 0.7], np.float32),
        "valid": np.ones(3, bool),
        "masks": np.ones((3, 28, 28), np.float32),
        "shape": np.array([SIDE, SIDE]),
    }
    result = task("mask_r_cnn").segment(outputs)
    # The second lies below the first and shows no pixel.
    np.testing.assert_array_equal(result.classes, [1, 1])
    np.testing.assert_allclose(result.scores, [0.9, 0.7])
    inputs = batch()["image"]
    detect = dataclasses.replace(CONFIG.detect, score_threshold=0.0, iou_threshold=0.99)
    loose = task("mask_r_cnn", detect)
    strict = task("mask_r_cnn", detect, suppression="masks", mask_nms=0.1)
    weights = params("mask_r_cnn")
    full = weights | {"mask_head": weights["mask_head"] | {"bias": np.full(3, 50.0, np.float32)}}
    every, few = (quick.jit(t.predict)(full, inputs)["valid"].sum() for t in (loose, strict))
    assert 0 < few < every


def test_masks_are_suppressed_as_they_are_shown():
    """All pixels have the probability 0.4: at the threshold 0.5, no mask has a pixel."""
    detect = dataclasses.replace(CONFIG.detect, score_threshold=0.0, iou_threshold=0.99)
    weights = params("mask_r_cnn")
    bias = np.full(3, np.log(0.4 / 0.6), np.float32)
    head = jax.tree.map(np.zeros_like, weights["mask_head"]) | {"bias": bias}
    counts = []
    for threshold in (0.5, 0.3):
        strict = task("mask_r_cnn", detect, suppression="masks", mask_nms=0.1, mask_threshold=threshold)
        outputs = quick.jit(strict.predict)(weights | {"mask_head": head}, batch()["image"])
        counts.append(outputs["valid"].sum())
    assert 0 < counts[1] < counts[0]


def test_what_is_impossible_is_named():
    with pytest.raises(InputError, match="choose one of boxes, masks"):
        task("mask_r_cnn", suppression="soft")
    with pytest.raises(InputError, match="needs masks"):
        task("faster_r_cnn", suppression="masks")
    with pytest.raises(
        InputError, match=r"^classifier='svm' needs external proposals: choose softmax, or"
    ) as raised:
        task("faster_r_cnn", classifier="svm")
    assert raised.value.field == "classifier"
    with pytest.raises(InputError, match="no RPN: give proposals"):
        jax.eval_shape(task("fast_r_cnn").predict, params("fast_r_cnn"), batch()["image"])


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_the_same_on_eight_devices(method):
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    inputs, weights, key = batch(size=8), params(method), jax.random.key(0)
    loss = quick.jit(task(method).loss)
    one = loss(weights, inputs, key)
    eight = loss(jax.device_put(weights, whole), jax.device_put(inputs, split), jax.device_put(key, whole))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        assert b == pytest.approx(float(a), rel=1e-4)


@pytest.mark.peers
def test_losses_are_torchvisions():
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    import torchvision

    from tests.models.weights import test_detectors as conversion

    name = "maskrcnn_resnet50_fpn"
    net = conversion.torch_model(name)
    model, weights, _ = conversion.segjax_model(name)
    rng = np.random.default_rng(0)
    image = rng.random((128, 192, 3), np.float32)
    labels = np.zeros((128, 192), np.int32)
    for index, (top, left, high, wide) in enumerate([(5, 8, 40, 30), (50, 60, 30, 50), (60, 5, 20, 30)], 1):
        labels[top : top + high, left : left + wide] = index
    masks = torch.tensor(np.stack([labels == i for i in (1, 2, 3)]).astype(np.uint8))
    target = {
        "boxes": torchvision.ops.masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1]),
        "labels": torch.tensor([1, 3, 2]),
        "masks": masks,
    }
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    # Batches so large that nothing is left to chance: all anchors and RoIs are in.
    everything = 10**6
    net.rpn.fg_bg_sampler.batch_size_per_image = everything
    net.roi_heads.fg_bg_sampler.batch_size_per_image = everything
    net.rpn._pre_nms_top_n = {"training": 300, "testing": 1000}
    net.rpn._post_nms_top_n = {"training": 200, "testing": 1000}
    net.transform.min_size = (128,)
    try:
        with torch.no_grad():
            expected = net([torch.tensor(image).permute(2, 0, 1)], [target])
    finally:
        net.eval()
        net.transform.min_size = (96,)
        net.rpn._pre_nms_top_n = {"training": 2000, "testing": 1000}
        net.rpn._post_nms_top_n = {"training": 2000, "testing": 1000}
    config = DetectionConfig(
        propose=ProposeConfig(pre_nms=300, post_nms=200),
        anchors=SamplingConfig(0.7, 0.3, batch_size=everything, positive_fraction=0.5),
        rois=SamplingConfig(batch_size=everything),
    )
    mine = DetectionTask(model, 5, config)
    inputs = {
        "image": image[None],
        "labels": labels[None],
        "semantic": (labels > 0).astype(np.int32)[None],
        "classes": np.array([[1, 3, 2, 0]], np.int32),
    }
    _, terms = jax.jit(mine.loss)(weights, inputs, jax.random.key(0))
    pairs = {
        "objectness": "loss_objectness",
        "proposals": "loss_rpn_box_reg",
        "classes": "loss_classifier",
        "boxes": "loss_box_reg",
        "masks": "loss_mask",
    }
    for ours, theirs in pairs.items():
        assert float(terms[ours]) == pytest.approx(float(expected[theirs]), rel=2e-3), ours


@pytest.mark.parametrize("method", ["mask_r_cnn", "fast_r_cnn"])
def test_patches_on_which_anchors_would_be_misplaced_are_refused(method):
    odd = jax.tree.map(lambda x: x[:, :56, :56] if x.shape[1:3] == (SIDE, SIDE) else x, batch())
    loss = functools.partial(task(method).loss, params(method), odd, jax.random.key(0))
    if method == "fast_r_cnn":  # no anchors
        jax.eval_shape(loss)
        return
    with pytest.raises(InputError, match=r"patch_size=56 is no multiple of 32.*; give 64"):
        jax.eval_shape(loss)
