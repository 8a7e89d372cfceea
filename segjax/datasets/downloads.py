"""Downloads of public data sets, and files that users download by hand."""

from __future__ import annotations

import dataclasses
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from segjax.errors import InputError
from segjax.files import file_digest

BLOCK_BYTES = 2**18
TIMEOUT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class ManualDownload:
    """A file that users download themselves, because of its licence or its publisher.

    Attributes:
      filename: path in the folder `manual`, such as `pannuke/fold_1.zip`. The unpacked folder
        `pannuke/fold_1` is accepted instead of a zip archive.
      page: address of the download page.
      licence: licence that users must agree to.
    """

    filename: str
    page: str
    licence: str

    def obtain(self, folder: Path) -> Path:
        """Finds the file.

        Args:
          folder: folder of downloads, with the subfolder `manual`.

        Returns:
          The path of the file, or of the folder.

        Raises:
          InputError: if it is missing; the message says where to put it.
        """
        path = find_manual_file(folder, self.filename)
        if path is None:
            raise InputError(
                f"segjax does not download {Path(self.filename).name}, whose licence is {self.licence}: if"
                f" you agree to it, get it from {self.page} and {_where(folder, self.filename)}"
            )
        return path


@dataclasses.dataclass(frozen=True)
class Download:
    """A file at a public address.

    Attributes:
      url: an https address.
      filename: path in the folder of downloads. A file of this name in the subfolder `manual`, or its
        unpacked folder, takes precedence.
      max_bytes: upper limit of the size.
      sha256: digest of the file in hexadecimal, None if none is published. The checksums inside a zip archive
        detect damage, but not manipulation.
    """

    url: str
    filename: str
    max_bytes: int
    sha256: str | None = None

    def obtain(self, folder: Path, *, opener: urllib.request.OpenerDirector | None = None) -> Path:
        """Finds the file, or downloads it.

        Data are written to a file `.part`, which is renamed when complete; a later call resumes an
        interrupted download.

        Args:
          folder: folder of downloads. Files put by hand are not verified.
          opener: opens the address and its redirects; None for one that supports https only.

        Returns:
          The path of the file, or of the folder put by hand.

        Raises:
          InputError: if both fail; the message says where to put the file.
        """
        by_hand = find_manual_file(folder, self.filename)
        if by_hand is not None:
            return by_hand
        target = folder / self.filename
        if not target.exists():
            part = target.with_name(f"{target.name}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(part, folder, https_only() if opener is None else opener)
            self._verify(part, folder)
            part.replace(target)
        return target

    def _fetch(self, part: Path, folder: Path, opener: urllib.request.OpenerDirector) -> None:
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.url, headers={"User-Agent": "segjax"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            response = opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                part.unlink()  # it has the full length, yet it is invalid
                return self._fetch(part, folder, opener)
            raise self._failed(f"the server says {error.code} {error.reason}", folder) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(str(error), folder) from error
        with response:
            start, total = _span(response)
            if start not in (0, have):
                raise self._failed(f"the server sends it from byte {start}, not {have}", folder)
            if total is not None and total > self.max_bytes:
                raise self._failed(f"it has {total} bytes, more than {self.max_bytes}", folder)
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                self._copy(response, file, start, total, folder)
        return None

    def _copy(self, response: Any, file: BinaryIO, have: int, total: int | None, folder: Path) -> None:
        name = Path(self.filename).name
        with tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, leave=False) as progress:
            while block := self._read(response, folder):
                have += len(block)
                if have > self.max_bytes:
                    file.truncate(0)
                    raise self._failed(f"it has more than {self.max_bytes} bytes", folder)
                file.write(block)
                progress.update(len(block))
        if total is not None and have < total:
            raise self._failed(f"the connection ended after {have} of {total} bytes", folder)

    def _read(self, response: Any, folder: Path) -> bytes:
        try:
            return response.read(BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(str(error), folder) from error

    def _verify(self, part: Path, folder: Path) -> None:
        if self.sha256 is None:
            return
        digest = file_digest(part)
        if digest != self.sha256:
            part.unlink()
            raise self._failed(f"it has the sha256 {digest}, not {self.sha256}", folder)

    def _failed(self, reason: str, folder: Path) -> InputError:
        return InputError(
            f"{self.url} could not be downloaded ({reason}); run again to resume, or get it yourself and"
            f" {_where(folder, self.filename)}"
        )


def find_manual_file(folder: Path, filename: str) -> Path | None:
    """Returns the file of this name in `manual`, or its unpacked folder; None if neither exists."""
    path = folder / "manual" / filename
    candidates = (path, path.with_suffix("")) if path.suffix == ".zip" else (path,)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def https_only() -> urllib.request.OpenerDirector:
    """Returns an opener for https, through the proxy of the environment if there is one.

    It has no handlers of other schemes, so it cannot be redirected to them.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _span(response: Any) -> tuple[int, int | None]:
    """Returns the offset of the response in the file, and the size of the file, None if unknown."""
    if response.status == http.client.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        return (-1, None) if span is None else (int(span[1]), None if span[2] == "*" else int(span[2]))
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _where(folder: Path, filename: str) -> str:
    path = folder / "manual" / filename
    unpacked = f", or its unpacked folder {path.stem}," if path.suffix == ".zip" else ""
    return f"put {path.name}{unpacked} into {path.parent}"
