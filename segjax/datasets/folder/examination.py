"""Looks at the images of a folder one by one, in several processes, and keeps what comes of each."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from threadpoolctl import threadpool_limits

from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import MAX_PIXELS, read_image
from segjax.data.records import Record, encode
from segjax.datasets.checks import Finding, check_file, check_image, finding_of, is_excluded, summarise
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.folder.staging import Staging
from segjax.datasets.formats import Annotations
from segjax.errors import InputError

# In the names of staged entries: a change of what is made of an image must not find what was made before.
VERSION = 1
# Images that may wait for a free process: more would only wait longer.
AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """How the images of a folder are read.

    Attributes:
      class_names: background first.
      channel_axis: as in `read_image`.
      max_pixels: of an image; of more, none is decoded.
      accept: kinds of findings for which an image is not set aside, where it can be used at all.
      prefix: of groups, to tell them from those of other data sets.
    """

    class_names: tuple[str, ...]
    channel_axis: int | None = None
    max_pixels: int = MAX_PIXELS
    accept: frozenset[str] = frozenset()
    prefix: str = "folder"

    @property
    def key(self) -> str:
        """All of it as text, the same in every process."""
        return repr((VERSION, dataclasses.replace(self, accept=frozenset()), sorted(self.accept)))


@dataclasses.dataclass(frozen=True)
class Checker:
    """Looks at one image; a value that travels to other processes.

    Attributes:
      annotations: of the folder.
      options: of reading.
      folder: of the staged entries.
      marks: what else their names depend on: the state of the annotations.
    """

    annotations: Annotations
    options: Options
    folder: Path
    marks: str = ""

    @property
    def staging(self) -> Staging:
        """Where entries are kept."""
        return Staging(self.folder, f"{self.options.key} {self.marks}")

    def __call__(self, item: ImageFile) -> None:
        """Looks at an image unless that was done before."""
        staging = self.staging
        if staging.find(item) is None:
            findings, record = self._examine(item)
            about = {
                "findings": [list(finding) for finding in findings],
                "summary": None if record is None else summarise(record).to_json(),
            }
            staging.put(item, about, None if record is None else encode(record))

    def _examine(self, item: ImageFile) -> tuple[tuple[Finding, ...], Record | None]:
        options = self.options
        findings = check_file(item.path)
        if is_excluded(findings, options.accept):
            return tuple(findings), None
        try:
            image = read_image(item.path, channel_axis=options.channel_axis, max_pixels=options.max_pixels)
        except InputError as error:
            return (*findings, finding_of(error)), None
        if item.key not in self.annotations.keys:
            return tuple(findings), None  # that is found when all keys are compared
        try:
            drawing = self.annotations.read(item.key, image.shape[:2])
        except InputError as error:
            return (*findings, finding_of(error)), None
        if item.class_name is not None:
            index = options.class_names.index(item.class_name)
            drawing = dataclasses.replace(drawing, classes=_Always(index))
        truth, found = check_image(
            image, drawing, num_classes=len(options.class_names), accept=options.accept
        )
        findings += found
        if truth is None:
            return tuple(findings), None
        group = item.name if item.group is None else item.group
        pixel_size = item.pixel_size if item.pixel_size is not None else read_pixel_size(item.path)
        record = Record(item.name, f"{options.prefix}/{group}", image, truth, pixel_size)
        return tuple(findings), record


class _Always(Mapping[int, int]):
    """One class for whatever id."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __getitem__(self, key: int) -> int:
        return self._value

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def examine_all(examiner: Checker, items: Sequence[ImageFile], *, workers: int) -> Iterator[ImageFile]:
    """Looks at all images; only what is not staged yet costs time.

    Args:
      examiner: of the folder.
      items: to be looked at.
      workers: processes; with 0 all is done in this one.

    Yields:
      Each item when it is staged, in no particular order.

    Raises:
      InputError: if a process was ended from outside, as it is when memory runs out.
    """
    if workers == 0:
        for item in items:
            examiner(item)
            yield item
        return
    # Forking a process that runs threads, as JAX does, may hang it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (examiner,)) as pool:
        left = iter(items)
        running: dict[Future[None], ImageFile] = {}
        try:
            while True:
                for item in itertools.islice(left, AHEAD * workers - len(running)):
                    running[pool.submit(_look, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item = running.pop(future)
                    future.result()
                    yield item
        except BrokenProcessPool as error:
            named = ", ".join(item.key for item in running.values())
            raise InputError(
                f"a process was ended from outside, as happens when memory runs out, near {named}: run again"
                " with fewer --workers; what is done is kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_examiner: Checker | None = None


def _begin(examiner: Checker) -> None:
    global _examiner
    _examiner = examiner
    # There is one process for each core already.
    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process that is killed cannot end those that it has begun, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _look(item: ImageFile) -> None:
    assert _examiner is not None
    _examiner(item)
