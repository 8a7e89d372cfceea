"""Quality reports of public data sets, and contact sheets."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from segjax.data.augmentation.preview import augmented
from segjax.data.records import Source
from segjax.datasets.catalog import PUBLIC, open_source
from segjax.datasets.checks.findings import KINDS
from segjax.datasets.checks.image import check_image
from segjax.datasets.checks.summary import summarise
from segjax.datasets.folder.decisions import Decision, compare
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.formats import RawAnnotation
from segjax.datasets.sources import PreparedSource
from segjax.errors import InputError
from segjax.experiment.results_folder import open_results, writing
from segjax.files import printable
from segjax.report import preview
from segjax.report.dataset_page import format_counts, write_quality

# Number of pictures and of augmented patches on a contact sheet, and the side of a patch in pixels.
PICTURES, AUGMENTED, PATCH = 24, 18, 192


def inspect_public(name: str, data_dir: str | None, out: str, *, previews: bool) -> str:
    """Prepares a public data set on first use, and writes a quality report.

    Args:
      name: name of a public data set.
      data_dir: folder of data sets; None for TFDS's default.
      out: folder for the report.
      previews: whether to draw contact sheets.

    Returns:
      The message for the user.

    Raises:
      InputError: if there is no such data set, it cannot be obtained, or the report cannot be written.
    """
    folder = Path(out).expanduser()
    open_results(folder)
    sources = _open_splits(name, data_dir)
    class_names = next(iter(sources.values())).class_names
    decisions: list[Decision] = []
    for split, source in sources.items():
        for index in tqdm(range(len(source)), unit="image", desc=f"check {split}", dynamic_ncols=True):
            record = source[index]
            classes = dict(enumerate(record.truth.classes.tolist(), start=1))
            annotation = RawAnnotation(record.truth.labels, classes, ())
            _, findings = check_image(record.image, annotation, num_classes=len(class_names), accept=KINDS)
            item = ImageFile(record.name, Path(), split=split)
            decisions.append(Decision(item, findings, summarise(record, split=split), split, "kept"))
    plan = compare(decisions)
    with writing(folder):
        write_quality(
            folder,
            plan,
            title=f"{name}: state of the data",
            class_names=class_names,
            applied=False,
            sheets=contact_sheets(sources, class_names) if previews else [],
            split_sha256=getattr(next(iter(sources.values())), "split_sha256", None),
        )
    contents = format_counts({split: len(source) for split, source in sources.items()})
    return printable(f"{contents}\n\nreport: {folder / 'index.html'}")


def contact_sheets(sources: Mapping[str, Source], class_names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Returns names and PNG contents of contact sheets: raw, outlined, augmented, by class, by group."""
    first = next(iter(sources.values()))
    records = [
        record
        for source in sources.values()
        for record in preview.evenly_spaced(source, max(1, PICTURES // len(sources)))
    ]
    drawn = [
        ("raw", preview.raw(records)),
        ("outlines", preview.outlines(records)),
        ("after augmentation", _augmented(first)),
        *(
            (f"class {name}", preview.by_class(records, index, count=PICTURES))
            for index, name in enumerate(class_names[1:], start=1)
        ),
        ("groups", preview.by_group(records, count=PICTURES)),
    ]
    return [(name, _png(preview.contact_sheet(pictures))) for name, pictures in drawn if pictures]


def _open_splits(name: str, data_dir: str | None) -> dict[str, Source]:
    """Opens all splits of a public data set, which is prepared on first use."""
    source = open_source(name, "all", data_dir=data_dir) if name != "folder" else None
    if not isinstance(source, PreparedSource):
        raise InputError(f"--dataset={name} is not a public data set: choose one of {', '.join(PUBLIC)}")
    return {split: open_source(name, split, data_dir=data_dir) for split in source.sizes}


def _augmented(source: Source) -> list[preview.Captioned]:
    """Returns patches of three images, augmented by the default policy."""
    made: list[preview.Captioned] = []
    for number, record in enumerate(preview.evenly_spaced(source, 3)):
        size = min(PATCH, *record.truth.shape)
        patches = augmented(record, {}, patch_size=size, count=AUGMENTED // 3, seed=number)
        made += [(record.name, preview.patch(*patch)) for patch in patches]
    return made


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
