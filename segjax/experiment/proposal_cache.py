"""A cache on disk for region proposals from outside the network."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from segjax.files import atomic_write

# Part of the folder name. Increase it when the proposals change, so that old files are not used.
VERSION = 2

# `image as read [H, W, C] -> boxes [P, 4]` in its pixels.
Proposer = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class CachedProposals:
    """A `Proposer` that remembers its proposals on disk, by the pixels of the image.

    Attributes:
      propose: may be slow.
      folder: where they are; its name identifies the method and its settings.
    """

    propose: Proposer
    folder: Path

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns the boxes [P, 4] of an image."""
        path = self.folder / f"{pixels_digest(image)}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        boxes = self.propose(image)
        with atomic_write(path) as tmp_path:
            np.save(tmp_path, boxes, allow_pickle=False)
        return boxes


def cached_proposals(propose: Proposer, name: str, config: ConfigDict) -> CachedProposals:
    """Caches proposals in `<data_dir>/proposals`.

    Args:
      propose: may be slow.
      name: identifies the method and its settings.
      config: contains `dataset.data_dir`.
    """
    import tensorflow_datasets as tfds  # slow to import

    data_dir = config.dataset.data_dir or tfds.core.constants.DATA_DIR
    return CachedProposals(propose, Path(data_dir).expanduser() / "proposals" / f"{name}-{VERSION}")


def pixels_digest(image: np.ndarray) -> str:
    """Returns the sha256 of an image with its shape and dtype."""
    content = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
    content.update(np.ascontiguousarray(image).tobytes())
    return content.hexdigest()
