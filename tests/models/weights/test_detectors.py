"""Torchvision's detectors with random weights say the same once converted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.detectors import create_detector
from segjax.models.weights.detectors import DETECTORS, convert_detector
from segjax.models.weights.file import PREPROCESSING, Weights, save
from segjax.models.weights.loading import load_detector
from segjax.ops.detection import DetectConfig
from segjax.tasks.detection import DetectionTask
from segjax.tasks.detection_config import DetectionConfig
from tests.segmentation.test_paste_masks import paste_masks, rounded

SIZES = ((32,), (64,), (128,), (256,), (512,))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLASSES = 5


@functools.cache
def torch_model(architecture):
    """A network with random weights, loud enough for there to be detections."""
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    import torchvision

    torch.manual_seed(0)
    build = getattr(torchvision.models.detection, architecture)
    net = build(weights=None, weights_backbone=None, num_classes=CLASSES, min_size=96, max_size=10_000).eval()
    draw = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=draw) * 0.5 + 0.75)
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=draw) * 0.05)
        if name.endswith("bn3.weight"):  # a buffer where batch norms are frozen
            buffer.mul_(0.3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bn3.weight"):  # keeps random activations from growing from block to block
                parameter.mul_(0.3)
        net.rpn.head.cls_logits.weight.mul_(20)
        net.roi_heads.box_predictor.cls_score.weight.mul_(10)
    return net


def state_dict(architecture):
    return {name: value.numpy() for name, value in torch_model(architecture).state_dict().items()}


@functools.cache
def segjax_model(architecture):
    settings = DETECTORS[architecture]
    model = create_detector(**(settings | {"anchor_sizes": SIZES}), classes=CLASSES)
    params = dict(convert_detector(state_dict(architecture), architecture, epsilon=1e-5).params)
    params["input"] = {"scale": 1 / STD, "bias": np.zeros(3), "mean": MEAN, "var": np.ones(3)}
    config = DetectionConfig(
        detect=DetectConfig(score_threshold=0.05, candidates=4000, max_detections=100), min_area=1
    )
    task = DetectionTask(model, CLASSES, config)
    return model, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), jax.jit(task.predict)


def padded(image):
    """As torchvision pads: with what is 0 after normalisation, to multiples of 32."""
    height, width = (-(-side // 32) * 32 for side in image.shape[:2])
    canvas = np.broadcast_to(MEAN.astype(np.float32), (height, width, 3)).copy()
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas[None]


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(96, 128), (96, 117), (131, 96)])
@pytest.mark.parametrize("architecture", list(DETECTORS))
def test_detects_what_torchvision_detects(architecture, shape):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    _, params, predict = segjax_model(architecture)
    for seed in range(2):
        image = np.random.default_rng(seed).random((*shape, 3), np.float32)
        with torch.no_grad():
            expected = torch_model(architecture)([torch.tensor(image).permute(2, 0, 1)])[0]
        expected = {name: value.numpy() for name, value in expected.items()}
        actual = predict(params, padded(image), np.array(shape, np.float32))
        actual = {name: np.asarray(value)[0] for name, value in actual.items()}
        actual = {name: value[actual["valid"]] for name, value in actual.items() if value.ndim}
        assert len(actual["boxes"]) == len(expected["boxes"]) > 0
        order = nearest(actual, expected)
        assert len(set(order)) == len(order)
        np.testing.assert_allclose(actual["boxes"][order], expected["boxes"], atol=0.1)
        np.testing.assert_allclose(actual["scores"][order], expected["scores"], atol=1e-3)
        if "masks" in expected:
            compare_masks(actual, expected, order, shape)


def nearest(actual, expected):
    """Returns, for each detection of torchvision, the index of segjax's nearest box of the same class."""
    distance = np.abs(actual["boxes"][None] - expected["boxes"][:, None]).max(-1)
    distance += 1e6 * (actual["classes"][None] != expected["labels"][:, None])
    return distance.argmin(1)


def compare_masks(actual, expected, order, shape):
    for index, mine in enumerate(order):
        box = actual["boxes"][mine : mine + 1]
        # Where a corner is within rounding of an integer, the two masks may be cut at different pixels.
        side = box[0, 2:] - box[0, :2]
        grown = np.concatenate([box[0, :2] - side / 28, box[0, 2:] + side / 28])
        if np.abs(grown - np.round(grown)).min() < 1e-2:
            continue
        torch_mask = expected["masks"][index, 0]
        mask = actual["masks"][mine : mine + 1]
        for threshold in (0.3, 0.5):
            pasted = paste_masks(rounded(box, 28), mask, shape, threshold=threshold) == 1
            differs = pasted != (torch_mask >= threshold)
            assert np.abs(torch_mask[differs] - threshold).max(initial=0) < 1e-3


@pytest.mark.peers
@pytest.mark.parametrize("architecture", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_every_stage_agrees_with_torchvision(architecture):
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    net, (model, params, _) = torch_model(architecture), segjax_model(architecture)
    image = np.random.default_rng(3).random((96, 128, 3), np.float32)
    call = functools.partial(model.apply, {"params": params})
    features = call(image[None], method="encode")
    logits, deltas, anchors = call(features, (96, 128), method="rpn_outputs")
    boxes = np.array([[[3, 5, 60, 70], [40, 20, 100, 90], [0, 0, 128, 96], [10, 10, 14, 13]]], np.float32)
    judged, moved = call(features, boxes, method="predict_boxes")
    drawn = call(features, boxes, np.array([[1, 2, 3, 4]]), method="predict_masks")
    with torch.no_grad():
        transformed, _ = net.transform([torch.tensor(image).permute(2, 0, 1)])
        maps = net.backbone(transformed.tensors)
        scores, shifts = net.rpn.head(list(maps.values()))
        at = net.rpn.anchor_generator(transformed, list(maps.values()))[0]
        rois = [torch.tensor(boxes[0])]
        pooled = net.roi_heads.box_roi_pool(maps, rois, [(96, 128)])
        classes, regression = net.roi_heads.box_predictor(net.roi_heads.box_head(pooled))
        pooled = net.roi_heads.mask_roi_pool(maps, rois, [(96, 128)])
        masks = net.roi_heads.mask_predictor(net.roi_heads.mask_head(pooled))

    def close(mine, other):
        scale = np.abs(other).max()
        np.testing.assert_allclose(np.asarray(mine) / scale, np.asarray(other) / scale, atol=2e-4)

    for mine, other in zip(features, maps.values(), strict=True):
        close(mine, other.permute(0, 2, 3, 1).numpy())
    for mine, other in zip(logits, scores, strict=True):
        close(mine, other.permute(0, 2, 3, 1).reshape(1, -1).numpy())
    for mine, other in zip(deltas, shifts, strict=True):
        close(mine, other.permute(0, 2, 3, 1).reshape(1, -1, 4).numpy())
    np.testing.assert_array_equal(np.concatenate(anchors), at)
    close(judged[0], classes.numpy())
    close(moved[0].reshape(4, -1), regression.numpy())
    close(drawn[0], masks[range(4), [1, 2, 3, 4]].numpy())


@pytest.mark.peers
def test_old_names_are_understood():
    new = state_dict("maskrcnn_resnet50_fpn")
    old = {}
    for name, value in new.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for level in range(4):
            for kind in ("inner", "layer"):
                name = name.replace(f"{kind}_blocks.{level}.0.", f"{kind}_blocks.{level}.")
            name = name.replace(f"mask_head.{level}.0.", f"mask_head.mask_fcn{level + 1}.")
        old[name] = value
    assert set(old) != set(new)
    one, two = (convert_detector(tensors, "maskrcnn_resnet50_fpn").params for tensors in (new, old))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, two))


@pytest.mark.peers
def test_epsilon_is_folded_into_the_scale():
    tensors = state_dict("fasterrcnn_resnet50_fpn")
    actual = convert_detector(tensors, "fasterrcnn_resnet50_fpn").params["backbone"]["encoder"]["norm"]
    var = tensors["backbone.body.bn1.running_var"]
    expected = tensors["backbone.body.bn1.weight"] / np.sqrt(var)
    np.testing.assert_allclose(actual["scale"] / np.sqrt(actual["var"] + 1e-5), expected, rtol=1e-6)


@pytest.mark.peers
def test_another_architecture_is_refused_by_name():
    tensors = state_dict("maskrcnn_resnet50_fpn")
    with pytest.raises(
        InputError, match=r"not a maskrcnn_resnet50_fpn_v2: missing .*: .*; unexpected .*: backbone"
    ):
        convert_detector(tensors, "maskrcnn_resnet50_fpn_v2")
    with pytest.raises(InputError, match=r"roi_heads\.mask_head"):
        convert_detector(tensors, "fasterrcnn_resnet50_fpn")


def test_a_classifier_is_no_detector():
    with pytest.raises(
        InputError,
        match=r"missing parameters: backbone\.body\.conv1\.weight, .* unexpected parameters: conv1\.weight;",
    ):
        convert_detector({"conv1.weight": np.zeros((64, 3, 7, 7))}, "maskrcnn_resnet50_fpn")


def random_params(num_classes, channels=3, **settings):
    fields = {
        "backbone": "resnet18_fpn",
        "width": 0.05,
        "norm": "frozen_batch",
        "pyramid_channels": 4,
        "head_channels": 4,
        "mask_channels": 4,
    }
    model = create_detector(**fields | settings, classes=num_classes)
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    rng = np.random.default_rng(num_classes)
    return jax.tree.map(lambda s: rng.random(s.shape, np.float32), shapes)


@pytest.fixture
def saved(tmp_path):
    params = {name: value for name, value in random_params(5).items() if name != "input"}
    path = tmp_path / "detector.safetensors"
    save(Weights("tiny", params, PREPROCESSING["torchvision"]), path)
    return path, params


def test_other_classes_keep_what_fits_and_name_what_does_not(saved):
    path, params = saved
    fresh = random_params(3)
    loaded, missing = load_detector(fresh, path, backbone="resnet18_fpn")
    assert {name.split("/")[0] for name in missing} == {"box_predictor", "mask_head"}
    np.testing.assert_array_equal(loaded["rpn"]["logits"]["kernel"], params["rpn"]["logits"]["kernel"])
    np.testing.assert_array_equal(
        loaded["box_predictor"]["logits"]["kernel"], fresh["box_predictor"]["logits"]["kernel"]
    )
    np.testing.assert_allclose(loaded["input"]["mean"], MEAN, rtol=1e-6)


def test_the_same_classes_take_all(saved):
    path, params = saved
    loaded, missing = load_detector(random_params(5), path, backbone="resnet18_fpn")
    assert missing == []
    loaded.pop("input")
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, params))


def test_grey_images_get_an_adapted_first_kernel(saved):
    path, params = saved
    loaded, _ = load_detector(random_params(5, channels=1), path, backbone="resnet18_fpn")
    kernel = params["backbone"]["encoder"]["conv"]["kernel"]
    np.testing.assert_allclose(
        loaded["backbone"]["encoder"]["conv"]["kernel"], kernel.sum(2, keepdims=True), rtol=1e-5
    )


def test_weights_of_another_backbone_are_refused(saved):
    path, _ = saved
    other = create_detector(
        method="fast_r_cnn", backbone="vgg11", width=0.05, norm="none", head_channels=4, classes=5
    )
    shapes = jax.eval_shape(other.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    params = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    with pytest.raises(InputError, match="not of vgg11"):
        load_detector(params, path, backbone="vgg11")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "group"}, "unexpected parameters: backbone/encoder/.*norm"),
        ({"norm": "weight"}, "unexpected parameters: backbone/encoder/.*norm"),
        ({"norm": "none"}, "missing parameters: backbone/encoder/.*bias"),
        ({"rpn_convolutions": 2}, "missing parameters: rpn/conv2"),
    ],
)
def test_another_norm_is_refused_by_name(saved, settings, message):
    path, _ = saved
    with pytest.raises(InputError, match=f"for resnet18_fpn with norm='frozen_batch': .*{message}"):
        load_detector(random_params(5, **settings), path, backbone="resnet18_fpn")


def test_a_part_with_further_layers_is_refused(tmp_path):
    params = {name: value for name, value in random_params(5, rpn_convolutions=2).items() if name != "input"}
    save(Weights("tiny", params, PREPROCESSING["torchvision"]), tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"missing parameters: none; unexpected parameters: rpn/conv2"):
        load_detector(random_params(5), tmp_path / "two.safetensors", backbone="resnet18_fpn")


def test_parts_that_the_detector_lacks_are_left_out(saved):
    path, params = saved
    loaded, missing = load_detector(random_params(5, method="faster_r_cnn"), path, backbone="resnet18_fpn")
    assert missing == []
    assert set(loaded) == {*params, "input"} - {"mask_head"}
