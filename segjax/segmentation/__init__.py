"""The `Segmentation` record, instance masks, and host-side post-processing (NumPy)."""

from segjax.segmentation.masks import Cutout, colour_ids, paint
from segjax.segmentation.record import Method, Segmentation

__all__ = ["Cutout", "Method", "Segmentation", "colour_ids", "paint"]
