"""Tiny files in the layout of a public data set, as an archive or as the folder it unpacks to."""

import io
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from segjax.datasets.catalog import open_source, public_builder

FORMS = ("zip", "folder")
LEFTOVERS = {"__MACOSX/x/images/x.png": b"not a picture", "__MACOSX/._x.xml": b"neither"}


def colours(seed, shape=(20, 24)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def png(pixels):
    return _pillow(pixels, "PNG")


def jpg(pixels):
    return _pillow(pixels, "JPEG")


def tif(pixels):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _pillow(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def put(data_dir, archive, members, form="zip"):
    """Puts members into `<data_dir>/downloads/manual`, as an archive of this name or unpacked beside it."""
    path = Path(data_dir) / "downloads" / "manual" / archive
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "zip":
        with zipfile.ZipFile(path, "w") as out:
            for name, content in (members | LEFTOVERS).items():
                out.writestr(name, content)
        return
    for name, content in (members | LEFTOVERS).items():
        file = path.with_suffix("") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def read(name, data_dir):
    """All records by split, after checks that hold for every data set."""
    builder = public_builder(name)
    records_by_split = {}
    for split in ("train", "validation", "test"):
        source = open_source(name, split, data_dir=data_dir)
        assert source.class_names == builder.CLASS_NAMES
        records_by_split[split] = [source[index] for index in range(len(source))]
        for record in records_by_split[split]:
            assert not set('/\\:*?"<>|') & set(record.name), "a name is fit for a file"
            assert record.truth.classes.max(initial=0) < len(builder.CLASS_NAMES)
    groups = [{record.group for record in records} for records in records_by_split.values()]
    assert len(set().union(*groups)) == sum(map(len, groups)), "no group is in two splits"
    return records_by_split


def stream(name, data_dir):
    """Reads every record without preparing anything, for the errors of what is read."""
    builder = public_builder(name)
    for records in builder.records(builder, Path(data_dir) / "downloads").values():
        yield from records()
