"""Pictures for people: an overlay, a drawing with paths, and a cut-out of each cell."""

from __future__ import annotations

import base64
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from segjax.files import atomic_write, printable
from segjax.inference.exports.cells import Cells
from segjax.inference.exports.marks import SOFTWARE

# Characters of class names, besides letters and digits, that are not replaced in names of files.
CHARACTERS = "-_."
# Level of a PNG, 0 to 9. Pictures of cells are as small as with the default, 6, in less than half the time.
COMPRESSION = 3
# Bytes of a PNG before its first optional chunk.
HEADER = 33


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Writes a picture [H, W, 3] uint8 to a PNG, atomically."""
    encoded = _png(picture)
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(encoded)


def write_svg(cells: Cells, path: Path) -> None:
    """Writes the image, and on top of it a path for each cell in the colour of its class."""
    height, width = cells.segmentation.shape
    picture = base64.b64encode(_png(cells.picture)).decode("ascii")
    classes = [int(number) for number in np.unique(cells.segmentation.classes)]
    with atomic_write(path) as tmp_path, tmp_path.open("w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}">\n<!-- {SOFTWARE} -->\n'
            f'<image width="{width}" height="{height}" href="data:image/png;base64,{picture}"/>\n'
        )
        for number in classes:
            colour = "#{:02x}{:02x}{:02x}".format(*cells.colour_of(number))
            name = quoteattr(printable(cells.class_names[number]))
            file.write(
                f'<g class={name} fill="{colour}" fill-opacity="0.15" fill-rule="evenodd"'
                f' stroke="{colour}">\n'
            )
            for index in np.flatnonzero(cells.segmentation.classes == number).tolist():
                title = escape(f"{index + 1}: {float(cells.segmentation.scores[index]):.3f}")
                rings = [ring for polygon in cells.outlines[index] for ring in polygon]
                lines = " ".join(
                    "M" + " ".join(f"{x},{y}" for x, y in ring.tolist()) + " Z" for ring in rings
                )
                file.write(f'<path id="cell-{index + 1}" d="{lines}"><title>{title}</title></path>\n')
            file.write("</g>\n")
        file.write("</svg>\n")


def write_cutouts(cells: Cells, path: Path) -> None:
    """Writes a zip archive with a PNG for each cell.

    Pixels outside of the cell are transparent. The PNG states the position of the cell in the image.
    """
    digits = len(str(cells.segmentation.num_instances))
    with atomic_write(path) as tmp_path, zipfile.ZipFile(tmp_path, "w") as archive:
        archive.comment = SOFTWARE.encode()
        for index, window in enumerate(ndimage.find_objects(cells.segmentation.labels)):
            alpha = np.where(cells.segmentation.labels[window] == index + 1, 255, 0).astype(np.uint8)
            picture = np.dstack([cells.picture[window], alpha])
            name = "".join(
                letter if letter.isalnum() or letter in CHARACTERS else "_"
                for letter in cells.class_of(index)
            )
            info = zipfile.ZipInfo(f"{index + 1:0{digits}}_{name}.png")
            archive.writestr(info, _placed(_png(picture), window[1].start, window[0].start))


def _png(picture: np.ndarray) -> bytes:
    about = PngInfo()
    about.add_text("Software", SOFTWARE)
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", pnginfo=about, compress_level=COMPRESSION)
    return encoded.getvalue()


def _placed(encoded: bytes, left: int, top: int) -> bytes:
    """Adds to a PNG the chunk from which image editors read the position of a layer; Pillow has no option."""
    chunk = b"oFFs" + struct.pack(">iiB", left, top, 0)  # the unit 0 stands for pixels
    return b"".join(
        [encoded[:HEADER], struct.pack(">I", 9), chunk, struct.pack(">I", crc32(chunk)), encoded[HEADER:]]
    )
