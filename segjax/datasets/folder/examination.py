"""Checks, repairs and stages the images of a folder, in several processes."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from threadpoolctl import threadpool_limits

from segjax.data.pixel_size import is_plausible, question, stored_pixel_size
from segjax.data.readers import MAX_PIXELS, read_image
from segjax.data.records import Record
from segjax.datasets.checks.files import check_file
from segjax.datasets.checks.findings import Finding, finding_of, is_excluded
from segjax.datasets.checks.image import check_image
from segjax.datasets.checks.summary import summarise
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.datasets.formats import Annotations
from segjax.datasets.store.codec import encode
from segjax.errors import InputError
from segjax.files import printable

# Part of the names of staged entries. Increase it when the result of a check changes.
VERSION = 5
# Images queued per process; more would only occupy memory.
QUEUED = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings for reading the images of a folder.

    Attributes:
      class_names: background first.
      image_classes: whether the class of the instances of an image is in the table, not in the annotation.
      channel_axis: axis of channels, as in `read_image`.
      planes: name and position of each axis along which a stack is cut to one plane, see `choose_plane`.
      max_pixels: larger images are not decoded.
      accept: kinds of findings that do not exclude an image, if it can be used at all.
      prefix: prefix of groups, which makes them unique among data sets.
    """

    class_names: tuple[str, ...]
    image_classes: bool = False
    channel_axis: int | None = None
    planes: tuple[tuple[str, int], ...] = ()
    max_pixels: int = MAX_PIXELS
    accept: frozenset[str] = frozenset()
    prefix: str = "folder"

    @property
    def key(self) -> str:
        """The options as text, the same in every process."""
        return repr((VERSION, dataclasses.replace(self, accept=frozenset()), sorted(self.accept)))


@dataclasses.dataclass(frozen=True)
class Checker:
    """Checks one image. Picklable, for worker processes.

    Attributes:
      annotations: all annotations of the folder.
      options: how images are read.
      folder: folder of the staged entries.
      annotations_digest: digest of the annotation files and of the options with which they were opened, part
        of the names of the entries.
    """

    annotations: Annotations
    options: Options
    folder: Path
    annotations_digest: str = ""

    @property
    def staging(self) -> Staging:
        """The cache of results."""
        return Staging(self.folder, f"{self.options.key} {self.annotations_digest}")

    def __call__(self, item: ImageFile) -> None:
        """Checks and stages an image unless it is staged already."""
        staging = self.staging
        if staging.find(item) is None:
            staging.put(item, *self._try(item))

    def _try(self, item: ImageFile) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Checks and encodes an image; returns the content of its entry. One image never costs the others."""
        example = summary = None
        try:
            findings, record = self._check(item)
            if record is not None:
                summary, example = summarise(record).to_json(), encode(record)
        except Exception as error:
            logging.log_first_n(logging.ERROR, "%s", 1, traceback.format_exc())
            findings = (Finding("failed", f"{type(error).__name__}: {error}"),)
        return {"findings": [list(finding) for finding in findings], "summary": summary}, example

    def _check(self, item: ImageFile) -> tuple[tuple[Finding, ...], Record | None]:
        options = self.options
        if printable(item.key) != item.key:  # the data set holds names in UTF-8
            return (Finding("invalid_name", printable(item.key)),), None
        findings = check_file(item.path)
        if is_excluded(findings, options.accept):
            return tuple(findings), None
        try:
            image = read_image(
                item.path,
                channel_axis=options.channel_axis,
                planes=dict(options.planes),
                max_pixels=options.max_pixels,
            )
        except InputError as error:
            return (*findings, finding_of(error)), None
        if item.key not in self.annotations.keys:
            return tuple(findings), None  # `check_pairs` reports it
        try:
            annotation = self.annotations.read(item.key, image.shape[:2])
        except InputError as error:
            return (*findings, finding_of(error)), None
        if options.image_classes and item.class_name is None:
            # Its cells would get a class of the annotation, which has other classes than the table.
            return (*findings, Finding("missing_class", "the table gives other images a class")), None
        if item.class_name is not None:
            index = options.class_names.index(item.class_name)
            ids = np.unique(annotation.labels[annotation.labels > 0]).tolist()
            annotation = dataclasses.replace(annotation, classes=dict.fromkeys(ids, index))
        truth, image_findings = check_image(
            image, annotation, num_classes=len(options.class_names), accept=options.accept
        )
        findings += image_findings
        if truth is None:
            return tuple(findings), None
        group = item.name if item.group is None else item.group
        pixel_size = item.pixel_size if item.pixel_size is not None else stored_pixel_size(item.path)
        if pixel_size is not None and not is_plausible(pixel_size):
            where = "the file" if item.pixel_size is None else "the table"
            findings.append(Finding("unusual_pixel_size", f"{where} states {question(pixel_size)}"))
            pixel_size = item.pixel_size  # a size by the user is used, one by a program is not
        record = Record(item.name, f"{options.prefix}/{group}", image, truth, pixel_size)
        return tuple(findings), record


def check_all(checker: Checker, items: Sequence[ImageFile], *, workers: int) -> Iterator[ImageFile]:
    """Checks all images that are not staged yet.

    Args:
      checker: checks one image.
      items: the images.
      workers: number of processes; 0 uses only this process.

    Yields:
      Each image once it is staged, in no particular order.

    Raises:
      InputError: if a process was killed, as happens when memory runs out.
    """
    if workers == 0:
        for item in items:
            checker(item)
            yield item
        return
    # Forking a process that runs threads, as JAX does, may hang it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (checker,)) as pool:
        remaining = iter(items)
        running: dict[Future[None], ImageFile] = {}
        try:
            while True:
                for item in itertools.islice(remaining, QUEUED * workers - len(running)):
                    running[pool.submit(_check_item, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item = running.pop(future)
                    future.result()
                    yield item
        except BrokenProcessPool as error:
            keys = ", ".join(item.key for item in running.values())
            raise InputError(
                f"a process was killed, as happens when memory runs out, near {keys}: run again"
                " with fewer --workers; finished images are not checked again"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_checker: Checker | None = None


def _start_worker(checker: Checker) -> None:
    global _checker
    _checker = checker
    # One process per core: more threads would compete.
    threadpool_limits(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this worker if its parent was killed; otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _check_item(item: ImageFile) -> None:
    assert _checker is not None
    _checker(item)
