"""Looks at data sets: what state they are in, and what their images are like."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from segjax.data.augmentation.preview import augmented
from segjax.data.records import Source
from segjax.datasets.catalog import DATASETS, open_source
from segjax.datasets.checks import KINDS, check_image, summarise
from segjax.datasets.folder.decisions import Decision, compare
from segjax.datasets.folder.image_files import ImageFile
from segjax.datasets.formats import RawAnnotation
from segjax.datasets.sources import PreparedSource
from segjax.errors import InputError
from segjax.report import preview
from segjax.report.dataset_page import format_counts, write_quality
from segjax.segmentation import Segmentation

# Pictures of a contact sheet, augmented ones, and the side of those in pixels.
PICTURES, AUGMENTED, PATCH = 24, 18, 192


def inspect_public(name: str, data_dir: str | None, out: str, *, previews: bool) -> str:
    """Prepares a public data set unless it is prepared already, and reports on its state.

    Args:
      name: one of `DATASETS` that lies on disk.
      data_dir: where data sets are kept; None for TFDS's default.
      out: folder for the report.
      previews: whether contact sheets are drawn.

    Returns:
      What to print.

    Raises:
      InputError: if there is no such data set, or it cannot be had.
    """
    found = _splits(name, data_dir)
    sources = {split: open_source(name, split, data_dir=data_dir) for split in found}
    class_names = next(iter(sources.values())).class_names
    decisions: list[Decision] = []
    for split, source in sources.items():
        for index in tqdm(range(len(source)), unit="image", desc=f"examine {split}", dynamic_ncols=True):
            record = source[index]
            drawing = RawAnnotation(record.truth.labels, _classes(record.truth), ())
            _, findings = check_image(record.image, drawing, num_classes=len(class_names), accept=KINDS)
            item = ImageFile(record.name, Path(), split=split)
            decisions.append(Decision(item, findings, summarise(record, split=split), split, "kept"))
    plan = compare(decisions)
    write_quality(
        Path(out),
        plan,
        title=f"{name}: state of the data",
        class_names=class_names,
        applied=False,
        sheets=contact_sheets(sources, class_names) if previews else [],
        split_sha256=getattr(next(iter(sources.values())), "split_sha256", None),
    )
    contents = format_counts({split: len(source) for split, source in sources.items()})
    return f"{contents}\n\nreport: {Path(out) / 'index.html'}"


def contact_sheets(sources: Mapping[str, Source], class_names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Names and PNG files of the sheets of a data set: raw, outlined, augmented, by class, by group."""
    first = next(iter(sources.values()))
    records = [
        record
        for source in sources.values()
        for record in preview.evenly_spaced(source, max(1, PICTURES // len(sources)))
    ]
    drawn = [
        ("raw", preview.raw(records)),
        ("outlines", preview.outlines(records, class_names)),
        ("after augmentation", _augmented(first, class_names)),
        *(
            (f"class {name}", preview.by_class(records, class_names, index, count=PICTURES))
            for index, name in enumerate(class_names[1:], start=1)
        ),
        ("groups", preview.by_group(records, class_names, count=PICTURES)),
    ]
    return [(name, _png(preview.contact_sheet(pictures))) for name, pictures in drawn if pictures]


def _classes(truth: Segmentation) -> dict[int, int]:
    return dict(enumerate(truth.classes.tolist(), start=1))


def _splits(name: str, data_dir: str | None) -> list[str]:
    """The splits of a public data set, which is prepared if it is not yet."""
    source = open_source(name, "all", data_dir=data_dir) if name != "folder" else None
    if not isinstance(source, PreparedSource):
        public = ", ".join(sorted(set(DATASETS) - {"folder", "synthetic"}))
        raise InputError(f"--dataset={name} is no public data set: choose one of {public}")
    return list(source.sizes)


def _augmented(source: Source, class_names: Sequence[str]) -> list[preview.Captioned]:
    """A few patches of each of three images, as training sees them with the default policy."""
    made: list[preview.Captioned] = []
    for number, record in enumerate(preview.evenly_spaced(source, 3)):
        size = min(PATCH, *record.truth.shape)
        patches = augmented(record, {}, patch_size=size, count=AUGMENTED // 3, seed=number)
        made += [(record.name, preview.patch(*patch, class_names)) for patch in patches]
    return made


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
