import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.errors import InputError
from segjax.models.detectors import METHODS, DetectorConfig, create_detector
from segjax.models.fpn import enlarge
from segjax.models.rcnn import warp_crops

TINY = {
    "backbone": "vgg11_fpn",
    "width": 0.05,
    "pyramid_channels": 4,
    "head_channels": 6,
    "mask_channels": 4,
    "anchor_sizes": ((4,), (8,), (16,), (32,)),
    "crop_side": 24,
    "crop_context": 4,
    "classes": 3,
}
IMAGES = jax.ShapeDtypeStruct((2, 40, 56, 2), jnp.float32)
BOXES = jax.ShapeDtypeStruct((2, 5, 4), jnp.float32)


@functools.cache
def shapes(method, **settings):
    """What each method of a model returns, as shapes: nothing is computed."""
    model = create_detector(**{**TINY, "method": method, **settings})
    params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)

    def call(name, *arguments, **fixed):
        return jax.eval_shape(lambda p, *a: model.apply(p, *a, method=name, **fixed), params, *arguments)

    features = call("encode", IMAGES)
    return model, params["params"], call, features


@pytest.mark.parametrize("method", METHODS)
def test_every_method_classifies_boxes(method):
    _, _, call, features = shapes(method)
    logits, deltas = call("predict_boxes", features, BOXES)
    assert logits.shape == (2, 5, 3)
    assert deltas.shape == (2, 5, 3, 4)


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_the_family(method):
    model, params, _, _ = shapes(method)
    assert (model.rpn is not None) == ("rpn" in params) == (method in ("faster_r_cnn", "mask_r_cnn"))
    assert (model.mask_head is not None) == ("mask_head" in params) == (method == "mask_r_cnn")
    assert (model.backbone is not None) == ("backbone" in params) == (method != "r_cnn")


class Means(nn.Module):
    """The mean of each channel, instead of an encoder that takes long to compile."""

    def __call__(self, crops):
        return crops.mean((1, 2))


@pytest.mark.parametrize("method", ["r_cnn", "fast_r_cnn"])
def test_a_size_unit_adds_two_inputs_to_the_predictor(method):
    inputs = [
        shapes(method, size_unit=unit)[1]["box_predictor"]["logits"]["kernel"].shape[0]
        for unit in (None, 16.0)
    ]
    assert inputs[1] == inputs[0] + 2


def test_sizes_of_boxes_follow_the_features():
    detector = create_detector(**{**TINY, "method": "r_cnn", "size_unit": 16.0}).clone(box_features=Means())
    images = 3 * jnp.ones((1, 56, 56, 2))
    # (x0, y0, x1, y1): 8 x 32 pixels, 16 x 16, and an empty box of padding.
    boxes = jnp.array([[[12.0, 12, 20, 44], [12, 12, 28, 28], [0, 0, 0, 0]]])
    vectors = detector.apply({}, [images], boxes, method="roi_features")[0]
    np.testing.assert_allclose(vectors[:2, :2], 3, rtol=1e-6)
    expected = [[np.log(0.5), np.log(2)], [0, 0], [np.log(1 / 16)] * 2]
    np.testing.assert_allclose(vectors[:, 2:], expected, rtol=1e-6)


def test_proposals_are_as_many_as_anchors():
    _, _, call, features = shapes("mask_r_cnn")
    logits, deltas, anchors = call("rpn_outputs", features, image_shape=(40, 56))
    # Strides 4, 8, 16 and 32, sides rounded up; three ratios.
    assert [x.shape for x in logits] == [(2, 3 * n) for n in (10 * 14, 5 * 7, 3 * 4, 2 * 2)]
    for logit, delta, anchor in zip(logits, deltas, anchors, strict=True):
        assert delta.shape == (*logit.shape, 4)
        assert anchor.shape == delta.shape[1:]


def test_masks_have_twice_the_resolution_of_their_bins():
    _, _, call, features = shapes("mask_r_cnn", bins=5)
    drawn = call("predict_masks", features, BOXES, jax.ShapeDtypeStruct((2, 5), jnp.int32))
    assert drawn.shape == (2, 5, 20, 20)


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ({"method": "faster_r_cnn"}, 41_755_286),
        ({"method": "mask_r_cnn"}, 44_401_393),
        ({"method": "faster_r_cnn", "rpn_convolutions": 2, "head": "conv"}, 43_712_278),
        ({"method": "mask_r_cnn", "rpn_convolutions": 2, "head": "conv"}, 46_359_409),
    ],
)
def test_has_as_many_parameters_as_torchvision_publishes(architecture, parameters):
    second = "head" in architecture
    norm = "frozen_batch" if second else "none"
    model = create_detector(
        **architecture,
        norm="frozen_batch",
        pyramid_norm=norm,
        head_norm=norm,
        anchor_sizes=((32,), (64,), (128,), (256,), (512,)),
        classes=91,
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    params.pop("input")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    # Statistics are no parameters there; in the first version neither are scales and biases of norms.
    buffers = ("mean", "var") if second else ("mean", "var", "scale")
    counted = {jax.tree_util.keystr(path): leaf for path, leaf in leaves if path[-1].key not in buffers}
    if not second:
        counted = {name: leaf for name, leaf in counted.items() if not ("norm" in name and "bias" in name)}
    assert sum(leaf.size for leaf in counted.values()) == parameters


def test_crops_are_warped_with_their_surroundings():
    ramp = np.broadcast_to(np.arange(40.0)[None, :, None], (40, 40, 1))
    box = jnp.array([[10.0, 10, 26, 18]])
    crop = warp_crops([ramp], box, side=24, context=4)[0, ..., 0]
    # 16 pixels in the middle are the box, four on each side come from a quarter of its width around it:
    # from 6 to 30 in all, a pixel of the crop for one of the image.
    np.testing.assert_allclose(crop[12], np.arange(6, 30), atol=1e-4)
    outside = warp_crops([ramp + 5], jnp.array([[-60.0, -60, -40, -40]]), side=24, context=4)
    assert not outside.any()


def test_enlarging_takes_the_nearest_pixel():
    x = jnp.arange(3.0)[None, None, :, None]
    assert enlarge(x, (1, 6))[0, 0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert enlarge(x, (2, 5))[0, 1, :, 0].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("pooling", ["align", "pool"])
@pytest.mark.parametrize("backbone", ["vgg11", "vgg11_fpn"])
def test_features_come_from_inside_the_box(backbone, pooling):
    model = create_detector(
        **{**TINY, "method": "fast_r_cnn", "backbone": backbone, "pooling": pooling, "canonical_size": 16.0}
    )
    strides = (4, 8, 16) if backbone.endswith("fpn") else (16,)
    maps = [np.zeros((64 // stride, 64 // stride, 2), np.float32) for stride in strides]
    for level, values in enumerate(maps):
        values[: len(values) // 2] = 1 + level  # the upper half
    boxes = np.array([[0, 0, 6, 6], [40, 50, 46, 56], [2, 2, 62, 20]], np.float32)
    pooled = model.pool(maps, boxes)
    assert pooled.shape == (3, 7, 7, 2)
    assert pooled[0].max() == 1
    assert pooled[1].max() == 0
    assert pooled[2].max() == len(maps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "yolo"}, "method=.* is unknown: choose one of r_cnn"),
        ({"backbone": "vgg16_pan"}, "backbone=.* is unknown: choose one of .*vgg16_fpn"),
        ({"pooling": "mean"}, "pooling=.* is unknown: choose one of align, pool"),
        ({"anchor_sizes": ((8,),)}, "anchor_sizes must be 4 lists of equal length"),
        ({"method": "r_cnn", "crop_context": 12}, "leaves nothing of crop_side"),
        ({"head": "deep"}, "head=.* is unknown: choose one of mlp, conv"),
        ({"bin": 3}, "setting='bin' is unknown: choose one of method, backbone, width"),
        ({"classes": 0}, "classes counts the background, too, and must be at least 1, not 0"),
        ({"classes": -1}, "must be at least 1, not -1"),
    ],
)
def test_what_is_impossible_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        create_detector(**{**TINY, **settings})


def test_settings_beside_all_settings_are_refused():
    with pytest.raises(InputError, match="set backbone, bins in the DetectorConfig, not beside it"):
        create_detector(DetectorConfig("faster_r_cnn"), classes=2, backbone="vgg16", bins=3)
