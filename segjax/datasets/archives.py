"""Files of a data set inside the zip archive it is published as, or in the folder it was unpacked to."""

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
    """Opens an archive or a folder; nothing is unpacked.

    Args:
      source: a zip archive, or a folder.
      max_member_bytes: refuses an archive of which a member says that it unpacks to more; `MAX_MEMBER_BYTES`
        if None.

    Yields:
      The files by their paths inside, sorted. What macOS leaves behind is not among them.

    Raises:
      InputError: if the archive is damaged, a member too large, or its name leads out of the folder.
    """
    if source.is_dir():
        found = {PurePosixPath(path.relative_to(source).as_posix()): path for path in source.rglob("*")}
        yield {name: found[name] for name in sorted(found) if _is_data(name) and found[name].is_file()}
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
                    f"{source} holds {member.filename} of {member.file_size} bytes: not this data set"
                )
        members = {
            PurePosixPath(member.filename): member.filename
            for member in archive.infolist()
            if not member.is_dir()
        }
        yield {name: zipfile.Path(archive, members[name]) for name in sorted(members) if _is_data(name)}


def read_bytes(file: File, *, max_bytes: int) -> bytes:
    """Reads a file that is small.

    Raises:
      InputError: if it has more bytes than that, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            content = bytearray()
            # Block by block: the limit may be more memory than there is.
            while len(content) <= max_bytes and (block := stream.read(BLOCK_BYTES)):
                content += block
    except Exception as error:
        raise InputError(f"{file} cannot be read ({error}): download it again") from error
    if len(content) > max_bytes:
        raise InputError(f"{file} has more than {max_bytes} bytes: not of this data set")
    return bytes(content)


def read_lines(file: File) -> list[str]:
    """The lines of a small text file that are not blank, without the blanks around them."""
    lines = read_bytes(file, max_bytes=MAX_MEMBER_BYTES).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_xml(file: File) -> ElementTree.Element:
    """Reads an XML file that declares nothing of its own: entities could grow without bound.

    Raises:
      InputError: if it is too large, declares a document type or an entity, or is no XML.
    """
    content = read_bytes(file, max_bytes=MAX_XML_BYTES)
    # In UTF-16 and UTF-32, where declarations would look different, there are zero bytes.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise InputError(
            f"{file} declares a document type or is not in UTF-8, and is not read: save it as plain XML"
        )
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file} is no XML ({error}): download it again") from error


def _is_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts and "\\" not in str(name)


def _is_data(name: PurePosixPath) -> bool:
    return name.parts[0] != "__MACOSX" and not name.name.startswith(".")
