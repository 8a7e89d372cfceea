"""Label images of any program, checked before they are scored."""

from __future__ import annotations

import numpy as np
from skimage.measure import label

from segjax.errors import InputError
from segjax.segmentation import Segmentation


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
    segmentation = Segmentation.from_labels(labels)
    # Programs that count beyond the largest value go on with 0 and 1, so that id 1 is there twice.
    is_full = labels.itemsize < 4 and segmentation.num_instances == np.iinfo(labels.dtype).max
    if is_full and label(labels == 1, connectivity=2).max() > 1:
        raise InputError(
            f"the {name} uses every id of {labels.dtype}, and id 1 twice: it has more instances than ids, so"
            " save it as int32",
            kind="overflow",
        )
    return segmentation
