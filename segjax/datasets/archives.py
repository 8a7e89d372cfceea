"""Reading the files of a data set from its zip archive, or from the folder it was unpacked to."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from segjax.data.readers import File
from segjax.errors import InputError

MAX_MEMBER_BYTES = 2**26
MAX_XML_BYTES = 2**26
BLOCK_BYTES = 2**20


@contextmanager
def open_archive(source: Path, *, max_member_bytes: int | None = None) -> Iterator[dict[PurePosixPath, File]]:
    """Opens an archive or a folder, without unpacking.

    Args:
      source: a zip archive, or a folder.
      max_member_bytes: largest declared size of a member; `MAX_MEMBER_BYTES` if None.

    Yields:
      The files by their relative paths, sorted, without those that macOS adds.

    Raises:
      InputError: if the archive is damaged, or a member is too large or its path leads out of the folder.
    """
    if source.is_dir():
        paths = {PurePosixPath(path.relative_to(source).as_posix()): path for path in source.rglob("*")}
        yield {name: paths[name] for name in sorted(paths) if _is_data(name) and paths[name].is_file()}
        return
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise InputError(f"{source} is damaged ({error}): delete it and get it again") from error
    limit = MAX_MEMBER_BYTES if max_member_bytes is None else max_member_bytes
    with archive:
        for member in archive.infolist():
            if not _is_inside(PurePosixPath(member.filename)):
                raise InputError(
                    f"{source} holds {member.filename!r}, which leads out of its folder, and is not read:"
                    " download it again from its publisher"
                )
            if member.file_size > limit:
                raise InputError(
                    f"{source} holds {member.filename} of {member.file_size} bytes:"
                    " it is not a file of this data set"
                )
        members = {
            PurePosixPath(member.filename): member.filename
            for member in archive.infolist()
            if not member.is_dir()
        }
        yield {name: zipfile.Path(archive, members[name]) for name in sorted(members) if _is_data(name)}


def read_bytes(file: File, *, max_bytes: int) -> bytes:
    """Reads a small file.

    Raises:
      InputError: if it has more than `max_bytes`, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            content = bytearray()
            # Read in blocks, because the limit may exceed the memory.
            while len(content) <= max_bytes and (block := stream.read(BLOCK_BYTES)):
                content += block
    except Exception as error:
        raise InputError(f"{file} cannot be read ({error}): download it again") from error
    if len(content) > max_bytes:
        raise InputError(f"{file} has more than {max_bytes} bytes: it is not a file of this data set")
    return bytes(content)


def read_lines(file: File) -> list[str]:
    """Returns the stripped lines of a small text file, without blank lines."""
    lines = read_bytes(file, max_bytes=MAX_MEMBER_BYTES).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_xml(file: File) -> ElementTree.Element:
    """Reads an XML file without declarations, because entities could expand without bound.

    Raises:
      InputError: if it is too large, declares a document type or an entity, or is not XML.
    """
    content = read_bytes(file, max_bytes=MAX_XML_BYTES)
    # UTF-16 and UTF-32, in which declarations have other bytes, contain zero bytes.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise InputError(
            f"{file} declares a document type or is not in UTF-8, and is not read: save it as plain XML"
        )
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file} is not XML ({error}): download it again") from error


def _is_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts and "\\" not in str(name)


def _is_data(name: PurePosixPath) -> bool:
    return name.parts[0] != "__MACOSX" and not name.name.startswith(".")
