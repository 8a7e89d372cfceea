"""The images of each user, in memory and with limits; no user sees those of another."""

from __future__ import annotations

import dataclasses
import io
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from segjax.data.channels import match_channels
from segjax.data.pixel_size import read_pixel_size
from segjax.data.readers import File, read_image
from segjax.errors import InputError
from segjax.experiment.prediction_tables import default_names
from segjax.files import printable
from segjax.segmentation import Segmentation
from segjax.serving.methods import ServedMethod

# Largest number of steps that can be undone, and of bytes that they need for one image.
STEPS, STEP_BYTES = 20, 2**28
# Number of steps that each image may have, whatever the others need: the last change can be undone.
FEWEST_STEPS = 2
# Longest name of a file without its suffix, in bytes of UTF-8: exports add a suffix of their own.
MAX_STEM = 150


@dataclasses.dataclass(frozen=True)
class Limits:
    """Largest sizes and numbers for users.

    Attributes:
      upload: largest file, bytes.
      pixels: largest image, pixels.
      images: largest number of images of one user.
      users: largest number of users; a further one replaces the user that was idle for longest.
      memory: largest number of bytes of all images together.
      idle: seconds after which the images of an idle user are removed.
    """

    upload: int = 200 * 2**20
    pixels: int = 2**26
    images: int = 100
    users: int = 32
    memory: int = 2**32
    idle: float = 3600.0


def read_upload(name: str, content: bytes, max_pixels: int) -> tuple[str, np.ndarray, float | None]:
    """Reads an image file in memory; nothing is written to the disk.

    Args:
      name: name of the file; folders in it are dropped.
      content: its bytes.
      max_pixels: larger images are refused.

    Returns:
      The name, the image [H, W, C], and the side of a pixel in micrometres, None if it is unknown.

    Raises:
      InputError: if it cannot be read as an image.
    """
    file = PurePosixPath(printable(PureWindowsPath(PurePosixPath(name).name).name) or "image")
    name = f"{file.stem.encode()[:MAX_STEM].decode(errors='ignore')}{file.suffix}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    # The readers take a file or a member of an archive; errors name the archive first.
    archive = zipfile.ZipFile(buffer)
    archive.filename = ""
    path: File = zipfile.Path(archive, name)
    return name, read_image(path, max_pixels=max_pixels), read_pixel_size(path)


class Picture:
    """An image of a user, with its segmentation and the earlier ones, which can be restored.

    Args:
      name: name of its file.
      content: the file.
      image: [H, W, C], the pixels as they were read.
      pixel_size: side of a pixel in micrometres, None if it is unknown.

    Attributes:
      lock: held while its segmentation changes.
      version: number of changes of the segmentation.
    """

    def __init__(self, name: str, content: bytes, image: np.ndarray, pixel_size: float | None) -> None:
        self.name, self.content, self.image, self.pixel_size = name, content, image, pixel_size
        self.lock = threading.Lock()
        self.version = 0
        # Each with the names of its classes.
        self._steps: list[tuple[Segmentation, Sequence[str]]] = []
        # The method and diameter of the stored outputs, and the function from settings to a segmentation.
        self._prepared: tuple[tuple[str, float], Callable[[Mapping[str, float]], Segmentation]] | None = None

    @property
    def nbytes(self) -> int:
        """The number of bytes of the file, the image, and its segmentations, without outputs of networks."""
        steps = max(FEWEST_STEPS, len(self._steps))
        return len(self.content) + self.image.nbytes + steps * self.step_bytes

    @property
    def step_bytes(self) -> int:
        """The number of bytes of one segmentation."""
        return 8 * self.image.shape[0] * self.image.shape[1]

    @property
    def segmentation(self) -> Segmentation | None:
        """The segmentation, None before the first."""
        return self._steps[-1][0] if self._steps else None

    @property
    def class_names(self) -> Sequence[str]:
        """The K names of the classes of the segmentation, background first."""
        return self._steps[-1][1] if self._steps else default_names(1)

    def segmented(self) -> tuple[Segmentation, Sequence[str]]:
        """Returns the segmentation with the names of its classes.

        Raises:
          InputError: if there is none.
        """
        steps = self._steps
        if not steps:
            raise InputError(f"{self.name} is not segmented: segment it first")
        return steps[-1]

    @property
    def can_undo(self) -> bool:
        """Whether there is a segmentation before the last one."""
        return len(self._steps) > 1

    def segment(
        self, method: ServedMethod, diameter: float, values: Mapping[str, float], compute: threading.Lock
    ) -> bool:
        """Segments the image; the outputs of a network are stored, and used again if only sliders moved.

        Args:
          method: the method.
          diameter: diameter of the cells, pixels; 0 to estimate it.
          values: values of the sliders that were moved, by name.
          compute: held while a network runs.

        Returns:
          Whether the network ran.

        Raises:
          InputError: if the image does not fit the method, or a value is out of range.
        """
        key = (method.name, diameter)
        # Read once: a request of another user may release the outputs in the meantime.
        prepared = self._prepared
        is_new = prepared is None or prepared[0] != key
        if prepared is None or is_new:
            image = match_channels(self.image, method.opened.channels, name=self.name)
            with compute:
                self._prepared = prepared = key, method.prepare(image, diameter)
        segmentation = prepared[1](values)
        highest = int(segmentation.classes.max(initial=1))
        self.change(segmentation, method.opened.class_names or default_names(highest))
        return is_new

    def release(self) -> None:
        """Forgets the outputs of the network."""
        self._prepared = None

    def change(self, segmentation: Segmentation, class_names: Sequence[str] | None = None) -> None:
        """Replaces the segmentation; the one before can be restored by `undo`.

        Args:
          segmentation: the new one.
          class_names: K names of its classes; those of the one before if None.
        """
        self._steps = [*self._steps, (segmentation, class_names or self.class_names)]
        self.forget(max(0, len(self._steps) - max(FEWEST_STEPS, min(STEPS, STEP_BYTES // self.step_bytes))))
        self.version += 1

    def forget(self, count: int) -> None:
        """Forgets the oldest steps, but not the last `FEWEST_STEPS`."""
        self._steps = self._steps[min(count, max(0, len(self._steps) - FEWEST_STEPS)) :]

    def undo(self) -> None:
        """Restores the segmentation before the last change.

        Raises:
          InputError: if there is none.
        """
        if not self.can_undo:
            raise InputError("there is no earlier segmentation to go back to")
        self._steps.pop()
        self.version += 1


class Workspace:
    """The images of one user."""

    def __init__(self) -> None:
        self.pictures: dict[str, Picture] = {}
        self.last_used = time.monotonic()


class Workspaces:
    """The images of all users; a secret token identifies each user, from the first upload on.

    Args:
      limits: largest sizes and numbers for users.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._by_token: dict[str, Workspace] = {}

    def open(self, token: str | None) -> tuple[str, Workspace]:
        """Returns the workspace of a token, or a new one with a new token."""
        with self._lock:
            self._forget_idle()
            if token is None or token not in self._by_token:
                token = secrets.token_urlsafe(32)
                if len(self._by_token) >= self.limits.users:
                    oldest = min(self._by_token, key=lambda one: self._by_token[one].last_used)
                    del self._by_token[oldest]
                self._by_token[token] = Workspace()
            self._by_token[token].last_used = time.monotonic()
            return token, self._by_token[token]

    def find(self, token: str | None) -> Workspace | None:
        """Returns the workspace of a token, None if there is none."""
        with self._lock:
            self._forget_idle()
            workspace = self._by_token.get(token or "")
            if workspace is not None:
                workspace.last_used = time.monotonic()
            return workspace

    def add(self, workspace: Workspace, picture: Picture) -> str:
        """Adds an image; returns its key.

        Raises:
          InputError: if there are too many images, of the user or of all.
        """
        with self._lock:
            if len(workspace.pictures) >= self.limits.images:
                raise InputError(
                    f"there are {len(workspace.pictures)} images, the most allowed: remove some first"
                )
            if self._used() + picture.nbytes > self.limits.memory:
                raise InputError("the images of all users fill the memory of the server: remove some first")
            key = secrets.token_urlsafe(8)
            workspace.pictures[key] = picture
            return key

    def forget_steps(self, picture: Picture) -> None:
        """Forgets the oldest steps of an image that has changed, until all images fit in the memory."""
        with self._lock:
            excess = self._used() - self.limits.memory
            picture.forget(max(0, -(-excess // picture.step_bytes)))

    def remove(self, token: str | None, key: str) -> None:
        """Removes an image; does nothing if it is gone already."""
        with self._lock:
            workspace = self._by_token.get(token or "")
            if workspace is not None:
                workspace.pictures.pop(key, None)

    def _used(self) -> int:
        return sum(one.nbytes for each in self._by_token.values() for one in each.pictures.values())

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for token, workspace in list(self._by_token.items()):
            if now - workspace.last_used > self.limits.idle:
                del self._by_token[token]
