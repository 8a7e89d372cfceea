"""The images of earlier runs that the files of all images together still list."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from segjax.experiment.finished_images import FOLDER, Finished, FinishedImages
from segjax.experiment.prediction_inputs import Inputs
from segjax.experiment.results_folder import FAILED, write_failed
from segjax.experiment.written_files import WrittenFiles
from segjax.files import read_json_object, write_json

# The images that failed, with their paths, in the hidden folder.
FAILURES = "failed.json"


def earlier_images(
    finished: FinishedImages,
    inputs: Inputs,
    reached: Collection[str],
    method: str,
    missing: Callable[[str, Finished], Collection[str]],
) -> dict[str, Finished]:
    """Returns the images that earlier runs finished by the same method, and that this run did not reach.

    Args:
      finished: the finished images in the folder of results.
      inputs: the images of this run. If it was stopped, it did not reach all of them.
      reached: names of the images that it finished, or that failed.
      method: see `Origin`. If it is "", no image is known to be of the same method.
      missing: `(key, image) -> formats that are not written`, for the images of this run.

    Returns:
      The images by their names, without those whose file was removed, or whose origin is unknown.
    """
    if not method:
        return {}
    waiting = [key for key, path in inputs.images.items() if inputs.name(path) not in reached]
    read = {key: finished.read(key) for key in waiting}
    images = [image for key, image in read.items() if image is not None and not missing(key, image)]
    sources = {os.path.realpath(path) for path in inputs.images.values()}
    others = finished.others(inputs.images)
    # An image may have had another name, as part of another folder.
    images += (image for image in others if image.origin and image.origin.source not in sources)
    return {
        image.origin.name: image
        for image in images
        if image.origin is not None and image.origin.method == method and Path(image.origin.source).exists()
    }


def write_failures(
    out: Path, failed: Mapping[str, str], done: Collection[str], sources: Mapping[str, Path]
) -> None:
    """Writes `failed.csv` with the images that failed in this run, or in earlier ones that reached others.

    Args:
      out: the folder of results.
      failed: reasons of failed images by name.
      done: names of the images that this run finished.
      sources: the files of images by name. An image whose file was removed is no longer listed.

    Raises:
      OSError: if the file cannot be written.
    """
    path = out / FOLDER / FAILURES
    try:
        stored = read_json_object(path)
    except (OSError, ValueError):
        stored = {}
    reached = {*failed, *done}
    paths = {os.path.realpath(sources[name]) for name in reached if name in sources}
    earlier = {
        name: entry
        for name, entry in stored.items()
        if name not in reached and _is_there(entry) and entry["source"] not in paths
    }
    reasons = {name: entry["reason"] for name, entry in earlier.items()} | dict(failed)
    entries = earlier | {
        name: {"reason": reason, "source": os.path.realpath(sources[name])}
        for name, reason in failed.items()
        if name in sources
    }
    with WrittenFiles(out).replacing(out / FAILED):
        write_failed(out, reasons)
    if entries or stored:
        write_json(path, entries)


def _is_there(entry: object) -> bool:
    """Returns whether an entry of `FAILURES` is valid, and its file exists."""
    if not isinstance(entry, dict):
        return False
    values = [entry.get(name) for name in ("reason", "source")]
    return all(isinstance(value, str) for value in values) and Path(entry["source"]).exists()
