"""Names and shapes of the parameters of every network: checkpoints and weights depend on them."""

import hashlib

import jax
import numpy as np
import pytest

from segjax.models.detectors import METHODS, create_detector
from segjax.models.segmenters import DECODERS, ENCODERS, create_segmenter

# Number of parameters, and the sha256 of their paths and shapes.
GOLDEN = {
    "vgg11 transposed": (13_059_248, "83c8115e6a5b968e"),
    "vgg11 upsample": (12_537_008, "f1767b7024a5e8bd"),
    "vgg13 transposed": (13_244_144, "c529afd6f4b8da52"),
    "vgg13 upsample": (12_721_904, "3678c51acf2ee4a3"),
    "vgg16 transposed": (18_556_400, "e032ab7d046f72ec"),
    "vgg16 upsample": (18_034_160, "b8f37c237197fb6c"),
    "vgg19 transposed": (23_868_656, "958b22ca8b4f3288"),
    "vgg19 upsample": (23_346_416, "ce3c0e33310f7cae"),
    "resnet18 transposed": (12_303_360, "6b246b56a6cd844a"),
    "resnet18 upsample": (12_071_424, "3656f64cce2bc832"),
    "resnet34 transposed": (22_411_520, "c9eb4dfd2e6d3c05"),
    "resnet34 upsample": (22_179_584, "331d4b4709e392fd"),
    "resnet50 transposed": (40_810_592, "aa00d1356802ba89"),
    "resnet50 upsample": (37_159_520, "201525fc912a4d68"),
    "resnet101 transposed": (59_802_720, "da6b9d5be93f0a98"),
    "resnet101 upsample": (56_151_648, "ea6f98422badd723"),
    "resnet50_v1 transposed": (40_810_592, "aa00d1356802ba89"),
    "resnet50_v1 upsample": (37_159_520, "201525fc912a4d68"),
    "resnet101_v1 transposed": (59_802_720, "da6b9d5be93f0a98"),
    "resnet101_v1 upsample": (56_151_648, "ea6f98422badd723"),
    "r_cnn vgg16": (41_479_259, "a369bbedc709fc5c"),
    "r_cnn vgg16_fpn": (41_479_259, "a369bbedc709fc5c"),
    "r_cnn resnet50_fpn": (23_538_779, "ea5a3738bf6ceee4"),
    "fast_r_cnn vgg16": (41_479_259, "b71d929e73334e16"),
    "fast_r_cnn vgg16_fpn": (30_732_891, "5fa48ff967f180e6"),
    "fast_r_cnn resnet50_fpn": (40_763_483, "14b449717af02ee7"),
    "faster_r_cnn vgg16": (43_885_237, "90c2a494d098a075"),
    "faster_r_cnn vgg16_fpn": (31_330_681, "7ea204a8bf010158"),
    "faster_r_cnn resnet50_fpn": (41_361_273, "a54d403cbad9778b"),
    "mask_r_cnn vgg16": (47_098_552, "2ae360a930c5bf7b"),
    "mask_r_cnn vgg16_fpn": (33_954_172, "13aa94c51f0b88e1"),
    "mask_r_cnn resnet50_fpn": (43_984_764, "ff84547160aa0805"),
}

SEGMENTERS = [f"{encoder} {decoder}" for encoder in ENCODERS for decoder in DECODERS]
DETECTORS = [
    f"{method} {backbone}" for method in METHODS for backbone in ("vgg16", "vgg16_fpn", "resnet50_fpn")
]


def make(name):
    first, second = name.split()
    if first in ENCODERS:
        return create_segmenter(first, decoder=second, outputs={"classes": 3, "distance": 1})
    return create_detector(first, backbone=second, classes=3)


@pytest.mark.parametrize("name", SEGMENTERS + DETECTORS)
def test_parameters_keep_their_names_and_shapes(name):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    params = jax.eval_shape(make(name).init, jax.random.key(0), image)["params"]
    lines = [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.shape}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert (count, digest) == GOLDEN[name], (
        f"the parameters of {name} changed: checkpoints and published weights no longer load. If that is"
        f" intended, write {(count, digest)} into GOLDEN"
    )
