"""Segments the tiles of a large image: reading, the device and decoding work at the same time."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from tqdm import tqdm

from segjax.classical.measurements import Table
from segjax.errors import InputError, first_line
from segjax.inference.large.grid import Tile
from segjax.inference.large.methods import Decoded, TileMethod
from segjax.inference.large.store import StoredTile, TileStore, pieces_of
from segjax.inference.ordered import in_order, num_threads

# Threads that read, and the most that decode: each needs memory for a tile.
READERS, MAX_DECODERS = 2, 8

# Measures the instances of a tile in its window.
Measure = Callable[[Tile, Decoded], Table]


def segment_tiles(
    method: TileMethod,
    tiles: Sequence[Tile],
    store: TileStore,
    *,
    measure: Measure | None = None,
    batch: int = 1,
    is_stopped: Callable[[], bool] = lambda: False,
) -> dict[Tile, str]:
    """Segments and stores the tiles that are not stored yet, with a progress bar.

    Args:
      method: segments windows.
      tiles: the tiles.
      store: where they are stored.
      measure: measures the instances of each tile; stored tiles without measurements are segmented again.
      batch: number of windows that a device predicts together.
      is_stopped: returns whether to stop; called between batches.

    Returns:
      The reason for each tile that failed.

    Raises:
      KeyboardInterrupt: if `is_stopped` returns True, after the tiles in progress are finished.
      OSError: if a tile cannot be stored.
    """
    failed: dict[Tile, str] = {}
    missing = [tile for tile in tiles if not _is_stored(store, tile, measure)]
    decoders = min(num_threads(), MAX_DECODERS)
    with (
        tqdm(total=len(tiles), initial=len(tiles) - len(missing), unit="tile", dynamic_ncols=True) as bar,
        ThreadPoolExecutor(decoders) as pool,
    ):
        ahead: deque[tuple[Tile, Future[None]]] = deque()

        def collect(most: int) -> None:
            while len(ahead) > most:
                tile, future = ahead.popleft()
                if reason := _reason(future):
                    failed[tile] = reason
                bar.update()

        previous: list[tuple[Tile, Any]] = []
        for group in _batches(_loaded(method, missing), batch):
            if is_stopped():
                collect(0)
                raise KeyboardInterrupt
            started = _predicted(method, group)
            for tile, outputs in started:
                ahead.append((tile, pool.submit(_finish, method, tile, outputs, store, measure)))
            # A GPU gets the next group while it works; on the CPU, several would need their memory at once.
            _wait(started if jax.default_backend() == "cpu" else previous)
            previous = started
            collect(decoders)
        collect(0)
    return failed


def _is_stored(store: TileStore, tile: Tile, measure: Measure | None) -> bool:
    stored = store.read(tile)
    return stored is not None and (measure is None or bool(stored.table))


def _loaded(method: TileMethod, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, Any]]:
    """Yields each tile with the inputs of the device, or with the exception of reading them."""
    tasks = (functools.partial(_attempt, method.load, tile.window) for tile in tiles)
    return zip(tiles, in_order(tasks, READERS), strict=True)


def _batches(loaded: Iterator[tuple[Tile, Any]], size: int) -> Iterator[list[tuple[Tile, Any]]]:
    """Yields as many tiles as all devices predict at once."""
    while group := list(itertools.islice(loaded, size * len(jax.local_devices()))):
        yield group


def _predicted(method: TileMethod, group: Sequence[tuple[Tile, Any]]) -> list[tuple[Tile, Any]]:
    """Starts each device on its part of a group; returns each tile with its outputs or its exception."""
    outputs: list[tuple[Tile, Any]] = [one for one in group if isinstance(one[1], Exception)]
    valid = [one for one in group if not isinstance(one[1], Exception)]
    devices = jax.local_devices()
    size = -(-len(valid) // len(devices))
    for number, device in enumerate(devices):
        part = valid[number * size : (number + 1) * size]
        if part:
            with jax.default_device(device if len(devices) > 1 else None):
                made = _attempt(method.predict, [inputs for _, inputs in part])
            results = [made] * len(part) if isinstance(made, Exception) else made
            outputs += [(tile, result) for (tile, _), result in zip(part, results, strict=True)]
    return outputs


def _wait(started: list[tuple[Tile, Any]]) -> None:
    """Waits for the devices; errors of the computation are raised later, when the outputs are decoded."""
    with contextlib.suppress(Exception):
        jax.block_until_ready([outputs for _, outputs in started])


def _finish(method: TileMethod, tile: Tile, outputs: Any, store: TileStore, measure: Measure | None) -> None:
    """Decodes, measures and stores a tile."""
    if isinstance(outputs, Exception):
        raise outputs
    decoded = _attempt(_decoded, method, tile, outputs, measure)
    if isinstance(decoded, Exception):
        raise decoded
    store.write(tile, decoded)


def _decoded(method: TileMethod, tile: Tile, outputs: Any, measure: Measure | None) -> StoredTile:
    decoded = method.decode(outputs, tile.window)
    return StoredTile(
        decoded.labels,
        decoded.semantic,
        decoded.classes,
        decoded.scores,
        decoded.areas,
        pieces_of(decoded.labels, len(decoded.classes), tile),
        {} if measure is None else measure(tile, decoded),
    )


class _TileError(Exception):
    """The failure of one tile, which does not stop the others."""


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a function, or the exception that it raises."""
    try:
        return function(*arguments)
    except InputError as error:
        return _TileError(str(error))
    except Exception as error:  # a failed tile does not stop the others
        return _TileError(f"{type(error).__name__}: {first_line(error)}")


def _reason(future: Future[None]) -> str | None:
    try:
        future.result()
    except _TileError as error:
        return str(error)
    return None
