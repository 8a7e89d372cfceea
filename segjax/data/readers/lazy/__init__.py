"""Images that are read in parts: tiled TIFF and OME-TIFF, OME-Zarr and slides, with their levels."""

from segjax.data.readers.lazy.matched import Matched
from segjax.data.readers.lazy.opening import is_lazy_image, is_lazy_only, open_lazily
from segjax.data.readers.lazy.pyramid import Level, Pyramid
from segjax.data.readers.lazy.rescaled import Rescaled

__all__ = ["Level", "Matched", "Pyramid", "Rescaled", "is_lazy_image", "is_lazy_only", "open_lazily"]
