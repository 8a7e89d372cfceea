"""Converts the state dicts of torchvision's Faster and Mask R-CNN."""

import re
from typing import Any

import jax
import numpy as np

from segjax.errors import choose
from segjax.models.detectors import create_detector
from segjax.models.weights import encoders
from segjax.models.weights.file import PREPROCESSING, Preprocessing, Weights, unflatten
from segjax.models.weights.loading import check_match, check_names, expected_params
from segjax.models.weights.readers import Tensors

# Settings of `create_detector` for torchvision's first and second version.
ANCHOR_SIZES = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
V1 = {"backbone": "resnet50_fpn", "norm": "frozen_batch", "aligned": False, "anchor_sizes": ANCHOR_SIZES}
V2 = V1 | {"pyramid_norm": "frozen_batch", "rpn_convolutions": 2, "head": "conv", "head_norm": "frozen_batch"}
DETECTORS: dict[str, dict[str, Any]] = {
    "fasterrcnn_resnet50_fpn": V1 | {"method": "faster_r_cnn"},
    "maskrcnn_resnet50_fpn": V1 | {"method": "mask_r_cnn"},
    "fasterrcnn_resnet50_fpn_v2": V2 | {"method": "faster_r_cnn"},
    "maskrcnn_resnet50_fpn_v2": V2 | {"method": "mask_r_cnn"},
}
# Numbered modules with a convolution and an optional norm: name in segjax -> name in torchvision.
BLOCKS = {
    "backbone/pyramid/lateral": "backbone.fpn.inner_blocks",
    "backbone/pyramid/output": "backbone.fpn.layer_blocks",
    "rpn/conv": "rpn.head.conv",
    "box_features/conv": "roi_heads.box_head",
    "mask_head/conv": "roi_heads.mask_head",
}
LAYERS = {
    "rpn/logits": "rpn.head.cls_logits",
    "rpn/deltas": "rpn.head.bbox_pred",
    "box_features/fc6": "roi_heads.box_head.fc6",
    "box_features/fc7": "roi_heads.box_head.fc7",
    "box_predictor/logits": "roi_heads.box_predictor.cls_score",
    "box_predictor/deltas": "roi_heads.box_predictor.bbox_pred",
    "mask_head/double": "roi_heads.mask_predictor.conv5_mask",
    "mask_head": "roi_heads.mask_predictor.mask_fcn_logits",
}
ROLES = {"kernel": "weight"} | {role: torch for torch, role in encoders.TORCH_ROLES.items()}
BINS = 7  # height and width of a pooled RoI


def convert_detector(
    tensors: Tensors,
    architecture: str,
    *,
    epsilon: float | None = None,
    preprocessing: Preprocessing | None = None,
) -> Weights:
    """Converts a state dict of torchvision.

    Args:
      tensors: from `readers.read_checkpoint`, with the names of any version of torchvision.
      architecture: a name in `DETECTORS`.
      epsilon: epsilon of the encoder's batch norms. By default 1e-5 for the second version; 0 for the
        first, because torchvision sets it to 0 when it loads its COCO weights.
      preprocessing: preprocessing of the training images; by default torchvision's.

    Returns:
      The weights of a detector with `frozen_batch` norms.

    Raises:
      InputError: if the state dict has another architecture; the message names the first parameters that
        do not match.
    """
    settings = choose(DETECTORS, "architecture", architecture)
    version2 = settings.get("head") == "conv"
    if epsilon is None:
        epsilon = encoders.EPSILON if version2 else 0.0
    tensors = {_current_name(k): v for k, v in tensors.items() if not k.endswith(".num_batches_tracked")}
    expected = _detector_params(tensors, settings)
    names = _torch_names(expected, version2)
    source = f"the state dict is not a {architecture}"
    check_names(tensors, names.values(), source)
    params = {name: _convert_tensor(name, tensors[torch]) for name, torch in names.items()}
    check_match(params, expected, source)
    for name in [name for name in params if name.startswith("backbone/encoder") and name.endswith("/var")]:
        # `FrozenBatchNorm` adds its own epsilon; a factor on the scale compensates it.
        scale = name.removesuffix("var") + "scale"
        params[scale] = params[scale] * np.sqrt((params[name] + encoders.EPSILON) / (params[name] + epsilon))
    return Weights(architecture, unflatten(params), preprocessing or PREPROCESSING["torchvision"])


def _current_name(name: str) -> str:
    """Returns the name in torchvision >= 0.13; the released weights of the first version have older names."""
    name = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2", name)
    name = re.sub(r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2", name)
    return re.sub(r"mask_fcn(\d)\.", lambda match: f"{int(match[1]) - 1}.0.", name)


def _detector_params(tensors: Tensors, settings: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a detector with the state dict's numbers of classes and anchors."""
    num_classes = len(tensors.get("roi_heads.box_predictor.cls_score.weight", np.zeros(2)))
    num_anchors = len(tensors.get("rpn.head.cls_logits.weight", np.zeros(3)))
    # Parameters depend only on the number of sizes; there are three anchor ratios.
    sizes = ((1.0,) * max(num_anchors // 3, 1),) * 5
    detector = create_detector(**(settings | {"anchor_sizes": sizes}), classes=num_classes)
    return {k: v for k, v in expected_params(detector).items() if not k.startswith("input/")}


def _torch_names(expected: dict[str, Any], version2: bool) -> dict[str, str]:
    """Returns the name of each parameter in a state dict."""
    layers = {
        f"backbone/encoder/{layer}": f"backbone.body.{torch}"
        for layer, (torch, *_) in encoders.resnet_names("resnet50").items()
    }
    for block, torch in BLOCKS.items():
        for index in range(4):
            layers[f"{block}{index + 1}/conv"] = f"{torch}.{index}.0"
            layers[f"{block}{index + 1}/norm"] = f"{torch}.{index}.1"
    layers |= LAYERS
    if version2:
        layers["box_features/fc6"] = "roi_heads.box_head.5"
    split_names = {name: name.rpartition("/") for name in expected}
    return {name: f"{layers[layer]}.{ROLES[role]}" for name, (layer, _, role) in split_names.items()}


def _convert_tensor(name: str, tensor: np.ndarray) -> np.ndarray:
    """Returns the float32 array of a parameter, with the axes of flax."""
    array = np.asarray(tensor, np.float32)
    if not name.endswith("/kernel"):
        return array
    if name == "mask_head/double/kernel":
        return array.transpose(2, 3, 0, 1)  # from [in, out, h, w]
    if name == "mask_head/kernel":
        return array[:, :, 0, 0].T
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if name == "box_features/fc6/kernel" and array.shape[1] % BINS**2 == 0:
        # Torch flattens the pooled RoI with the channels first.
        array = array.reshape(len(array), -1, BINS, BINS).transpose(0, 2, 3, 1).reshape(len(array), -1)
    return array.T
