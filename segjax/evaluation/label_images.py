"""Label images of any program, checked before they are scored."""

from __future__ import annotations

import numpy as np

from segjax.errors import InputError
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import check_not_wrapped


def checked_pair(
    truth: Segmentation | np.ndarray, prediction: Segmentation | np.ndarray
) -> tuple[Segmentation, Segmentation]:
    """Returns truth and prediction of one image as segmentations of equal size.

    Args:
      truth: a segmentation, or a label image [H, W] integer, 0 for background and one id per instance.
      prediction: the same for the prediction.

    Raises:
      InputError: if one is not a label image, its ids overflowed, or the sizes differ.
    """
    pair = _checked(truth, "truth"), _checked(prediction, "prediction")
    sizes = ["{} x {}".format(*side.shape) for side in pair]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"the truth is {sizes[0]} pixels and the prediction {sizes[1]}: they differ in shape; predict at"
            " the size of the annotated image",
            kind="size",
        )
    return pair


def _checked(labels: Segmentation | np.ndarray, name: str) -> Segmentation:
    if isinstance(labels, Segmentation):
        return labels
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"the {name} is {labels.dtype} of shape {labels.shape}, but a label image is a 2-D array of"
            " integers: 0 for background, and one id per instance"
        )
    if labels.min(initial=0) < 0:
        raise InputError(f"the {name} has the id {labels.min()}: 0 is background, and ids are above 0")
    check_not_wrapped(labels, f"the {name}")
    return Segmentation.from_labels(labels)
