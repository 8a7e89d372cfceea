import zipfile
from pathlib import PurePosixPath

import pytest

from segjax.datasets.archives import open_archive, read_lines, read_xml
from segjax.errors import InputError

NAMES = ["b/two.txt", "a/one.txt", "a/.hidden.txt", "__MACOSX/a/one.txt"]


def write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("empty")
        for name in members:
            archive.writestr(name, name)
    return path


def test_an_archive_and_its_folder_hold_the_same(tmp_path):
    archive = write(tmp_path / "set.zip", NAMES)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "set")
    for source in (archive, tmp_path / "set"):
        with open_archive(source) as files:
            assert [str(path) for path in files] == ["a/one.txt", "b/two.txt"]
            assert read_lines(files[PurePosixPath("b/two.txt")]) == ["b/two.txt"]


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    archive = write(tmp_path / "set.zip", ["a/x", name])
    with (
        pytest.raises(InputError, match=r"set\.zip holds .*evil\.txt', which leads out of its folder"),
        open_archive(archive),
    ):
        pass


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path):
    archive = write(tmp_path / "set.zip", ["a/x"])
    with (
        pytest.raises(InputError, match=r"set\.zip holds a/x of 3 bytes"),
        open_archive(archive, max_member_bytes=2),
    ):
        pass


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK but no archive")
    with pytest.raises(InputError, match=r"set\.zip is damaged"), open_archive(tmp_path / "set.zip"):
        pass


def test_xml_is_read(tmp_path):
    (tmp_path / "x.xml").write_text("<?xml version='1.0' encoding='utf-8'?><a><b>é</b></a>", "utf-8")
    assert read_xml(tmp_path / "x.xml").findtext("b") == "é"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE a [<!ENTITY x "lol">]><a>&x;</a>', "declares a document type"),
        ('<!DOCTYPE a [<!ENTITY x "lol">]><a>&x;</a>'.encode("utf-16"), "not in UTF-8"),
        (b"<a><b></a>", "not XML"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "not XML"),
        (b"<a>" + b" " * 100 + b"</a>", "more than 100 bytes"),
    ],
)
def test_xml_that_is_not_read(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("segjax.datasets.archives.MAX_XML_BYTES", 100)
    (tmp_path / "x.xml").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.xml .*{message}"):
        read_xml(tmp_path / "x.xml")
