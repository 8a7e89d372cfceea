"""Proposals from outside the network, made once for each image and kept beside the prepared data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

# In the name of the cache: a change of what the methods propose must not find the old boxes.
VERSION = 1

# `image as read [H, W, C] -> boxes [P, 4]` in its pixels.
Proposer = Callable[[np.ndarray], np.ndarray]


def cached_proposals(propose: Proposer, name: str, config: ConfigDict) -> Proposer:
    """The same proposals, kept in `<data_dir>/proposals` by the pixels of the image.

    Args:
      propose: may be slow.
      name: of what proposes; others of the same name have to propose the same.
      config: says where data lie.
    """
    data_dir = config.dataset.data_dir or tfds.core.constants.DATA_DIR
    folder = Path(data_dir).expanduser() / "proposals" / f"{name}-{VERSION}"

    def look_up(image: np.ndarray) -> np.ndarray:
        content = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
        content.update(np.ascontiguousarray(image).tobytes())
        path = folder / f"{content.hexdigest()}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        boxes = propose(image)
        folder.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, also where several threads and processes make the same.
        draft = path.with_name(f"{path.stem}.{os.getpid()}.{id(boxes)}.tmp")
        with draft.open("wb") as file:
            np.save(file, boxes, allow_pickle=False)
        os.replace(draft, path)
        return boxes

    return look_up
