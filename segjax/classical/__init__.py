"""Classical segmentation methods: functions `image -> Segmentation` without training."""

from segjax.classical.methods import METHODS, ClassicalMethod, ClassicalSegmenter, make_method

__all__ = ["METHODS", "ClassicalMethod", "ClassicalSegmenter", "make_method"]
