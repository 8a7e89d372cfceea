"""Classical segmentation methods: functions `image -> Segmentation` without training."""

from segjax.classical.methods import METHODS, ClassicalMethod, make_method, make_stages

__all__ = ["METHODS", "ClassicalMethod", "make_method", "make_stages"]
