"""A torch DataLoader over files, the baseline for data loading; torch is in the `peers` extra."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

# Reads an image and its labels.
ReadPair = Callable[[Path, Path], tuple[np.ndarray, np.ndarray]]


class Files(Dataset):
    """Pairs of an image and its label image."""

    def __init__(self, pairs: list[tuple[Path, Path]], read_pair: ReadPair) -> None:
        self.pairs = pairs
        self.read_pair = read_pair

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, labels = self.read_pair(*self.pairs[index])
        return torch.from_numpy(image.astype(np.int32)), torch.from_numpy(labels)


def file_loader(pairs: list[tuple[Path, Path]], read_pair: ReadPair, batch: int, workers: int) -> DataLoader:
    """Returns a DataLoader with persistent worker processes."""
    # JAX has already started threads, so forking might deadlock.
    return DataLoader(
        Files(pairs, read_pair),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
