"""From the state dicts of torchvision's Faster and Mask R-CNN to the parameters of our detectors."""

import re
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError, choose
from segjax.models.detectors import create_detector
from segjax.models.weights.encoders import EPSILON, TORCH_ROLES, resnet_names
from segjax.models.weights.loading import PREPROCESSING, Preprocessing, Weights, check_fit, flatten
from segjax.models.weights.readers import Tensors

# What `create_detector` makes of torchvision's models, by their names there.
FIRST = {"backbone": "resnet50_fpn", "norm": "frozen_batch"}
SECOND = FIRST | {
    "pyramid_norm": "frozen_batch",
    "rpn_convolutions": 2,
    "head": "conv",
    "head_norm": "frozen_batch",
}
DETECTORS: dict[str, dict[str, Any]] = {
    "fasterrcnn_resnet50_fpn": FIRST | {"method": "faster_r_cnn"},
    "maskrcnn_resnet50_fpn": FIRST | {"method": "mask_r_cnn"},
    "fasterrcnn_resnet50_fpn_v2": SECOND | {"method": "faster_r_cnn"},
    "maskrcnn_resnet50_fpn_v2": SECOND | {"method": "mask_r_cnn"},
}
# Names before torchvision 0.13, as the released weights of the first version have them.
OLD_NAMES = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)", r"\1.0.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)", lambda m: _old_mask_name(m)),
)


def convert_detector(
    tensors: Tensors,
    architecture: str,
    *,
    epsilon: float | None = None,
    preprocessing: Preprocessing | None = None,
) -> Weights:
    """Makes the weights of a detector from a state dict of torchvision.

    Args:
      tensors: as `readers.read_checkpoint` returns them, with today's names or those before version 0.13.
      architecture: a name in `DETECTORS`.
      epsilon: that the encoder's batch norms were used with; by default 0 for the first version, for which
        torchvision overwrites it when it loads its COCO weights, and 1e-5 for the second.
      preprocessing: of the images; by default torchvision's.

    Returns:
      The weights, for `frozen_batch` norms.

    Raises:
      InputError: if the state dict is not of this architecture; names the first layers that do not fit.
    """
    settings = choose(DETECTORS, "architecture", architecture)
    second = settings.get("head") == "conv"
    if epsilon is None:
        epsilon = EPSILON if second else 0.0
    tensors = {_today(name): value for name, value in tensors.items()}
    if "roi_heads.box_predictor.cls_score.weight" not in tensors:
        raise InputError(
            f"the state dict is not a {architecture}: it has no layer roi_heads.box_predictor.cls_score, but"
            f" {', '.join(list(tensors)[:3])}"
        )
    num_classes = len(tensors["roi_heads.box_predictor.cls_score.weight"])
    num_anchors = len(tensors.get("rpn.head.cls_logits.weight", np.zeros(3)))
    # Sizes do not matter to the parameters, only how many there are with each ratio.
    sizes = ((1.0,) * max(num_anchors // 3, 1),) * 5
    detector = create_detector(**settings, num_classes=num_classes, anchor_sizes=sizes)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    expected = flatten(jax.eval_shape(detector.init, jax.random.key(0), image)["params"])
    expected = {name: value for name, value in expected.items() if not name.startswith("input/")}

    names = _names(second)
    found: Tensors = {}
    unknown = []
    for name, value in tensors.items():
        layer, _, role = name.rpartition(".")
        if role == "num_batches_tracked":
            continue
        ours, is_norm = names.get(layer, ("", False))
        ours += f"/{TORCH_ROLES.get(role) if is_norm or role != 'weight' else 'kernel'}"
        if ours not in expected:
            unknown.append(name)
            continue
        found[ours] = _layout(layer, role, np.asarray(value, np.float32), expected)
    lacking = [name for name in expected if name not in found]
    if unknown or lacking:
        theirs = {ours: layer for layer, (ours, _) in names.items()}
        missing = [theirs.get(name.rpartition("/")[0], name) for name in lacking]
        raise InputError(
            f"the state dict is not a {architecture}: it lacks {', '.join(missing[:3]) or 'nothing'} and has"
            f" {', '.join(unknown[:3]) or 'nothing'} too many"
        )
    check_fit(found, expected, f"a state dict of {architecture}")
    for name in [name for name in found if name.startswith("backbone/encoder") and name.endswith("/var")]:
        # Ours adds its own epsilon: a factor on the scale makes the quotient what it was.
        scale = name.removesuffix("var") + "scale"
        found[scale] = found[scale] * np.sqrt((found[name] + EPSILON) / (found[name] + epsilon))
    params = flax.traverse_util.unflatten_dict({name: found[name] for name in expected}, sep="/")
    return Weights(architecture, params, preprocessing or PREPROCESSING["torchvision"])


def _names(second: bool) -> dict[str, tuple[str, bool]]:
    """Our name for each layer of a state dict, and whether it is a norm."""
    names: dict[str, tuple[str, bool]] = {}
    for ours, (torch, *_) in resnet_names("resnet50").items():
        is_norm = ours.rpartition("/")[2].startswith("norm")
        names[f"backbone.body.{torch}"] = (f"backbone/encoder/{ours}", is_norm)
    for level in range(4):
        for theirs, ours in (("inner", "lateral"), ("layer", "output")):
            names[f"backbone.fpn.{theirs}_blocks.{level}.0"] = (
                f"backbone/pyramid/{ours}{level + 1}/conv",
                False,
            )
            names[f"backbone.fpn.{theirs}_blocks.{level}.1"] = (
                f"backbone/pyramid/{ours}{level + 1}/norm",
                True,
            )
        names[f"roi_heads.box_head.{level}.0"] = (f"box_features/conv{level + 1}/conv", False)
        names[f"roi_heads.box_head.{level}.1"] = (f"box_features/conv{level + 1}/norm", True)
        names[f"roi_heads.mask_head.{level}.0"] = (f"mask_head/conv{level + 1}/conv", False)
        names[f"roi_heads.mask_head.{level}.1"] = (f"mask_head/conv{level + 1}/norm", True)
    for index in range(2):
        names[f"rpn.head.conv.{index}.0"] = (f"rpn/conv{index + 1}/conv", False)
    fully_connected = {"5": "fc6"} if second else {"fc6": "fc6", "fc7": "fc7"}
    for theirs, ours in fully_connected.items():
        names[f"roi_heads.box_head.{theirs}"] = (f"box_features/{ours}", False)
    return names | {
        "rpn.head.cls_logits": ("rpn/logits", False),
        "rpn.head.bbox_pred": ("rpn/deltas", False),
        "roi_heads.box_predictor.cls_score": ("box_predictor/logits", False),
        "roi_heads.box_predictor.bbox_pred": ("box_predictor/deltas", False),
        "roi_heads.mask_predictor.conv5_mask": ("mask_head/double", False),
        "roi_heads.mask_predictor.mask_fcn_logits": ("mask_head", False),
    }


def _layout(layer: str, role: str, value: np.ndarray, expected: dict[str, Any]) -> np.ndarray:
    """Turns a tensor to our order of axes."""
    if role != "weight" or value.ndim == 1:
        return value
    if layer.endswith("conv5_mask"):
        return value.transpose(2, 3, 0, 1)  # [in, out, h, w]
    if layer.endswith("mask_fcn_logits"):
        return value[:, :, 0, 0].T
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if layer.endswith(("box_head.fc6", "box_head.5")):
        # The pooled RoI was flattened with the channels first.
        kernel = expected["box_features/fc6/kernel"]
        bins = 7
        channels = kernel.shape[0] // bins**2
        if value.shape[1] == kernel.shape[0]:
            value = value.reshape(-1, channels, bins, bins).transpose(0, 2, 3, 1).reshape(len(value), -1)
    return value.T


def _today(name: str) -> str:
    for old, new in OLD_NAMES:
        if match := re.fullmatch(old, name):
            return new(match) if callable(new) else match.expand(new)
    return name


def _old_mask_name(match: re.Match[str]) -> str:
    return f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
