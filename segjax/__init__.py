"""Trains, evaluates and compares methods that segment cells in medical and microscopy images.

    load                a trained run, or a classical method, as a function of an image
    Segmentation        the result of a method, and an annotation
    evaluate            the scores of a segmentation, compared with an annotation
    create_segmenter    an encoder-decoder network
    create_detector     a network of the R-CNN family

>>> import numpy as np
>>> import segjax
>>> image = np.zeros((64, 64), np.uint8)
>>> image[8:28, 8:28] = image[36:60, 30:50] = 200
>>> method = segjax.load("watershed")
>>> segmentation = method(image)
>>> segmentation.num_instances
2
>>> truth = segjax.Segmentation.from_labels(segmentation.labels)
>>> scores = segjax.evaluate(truth, segmentation)
>>> scores.ap[0.5], scores.pq, scores.aji
(1.0, 1.0, 1.0)
>>> network = segjax.create_segmenter("vgg16", decoder="transposed", classes=3)
>>> detector = segjax.create_detector("mask_r_cnn", backbone="resnet50_fpn", classes=2)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.evaluation.evaluate import evaluate_labels as evaluate
    from segjax.experiment.methods import open_method as load
    from segjax.models.detectors import create_detector
    from segjax.models.segmenters import create_segmenter
    from segjax.segmentation import Segmentation

__version__ = "0.1.0"
__all__ = ["Segmentation", "create_detector", "create_segmenter", "evaluate", "load"]

# Imported when first used, so that `import segjax` takes no time.
_LAZY = {
    "Segmentation": ("segjax.segmentation", "Segmentation"),
    "create_detector": ("segjax.models.detectors", "create_detector"),
    "create_segmenter": ("segjax.models.segmenters", "create_segmenter"),
    "evaluate": ("segjax.evaluation.evaluate", "evaluate_labels"),
    "load": ("segjax.experiment.methods", "open_method"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'segjax' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
