"""Makes a data set of a user's folder, and reports on its state."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tensorflow_datasets as tfds
from tqdm import tqdm

from segjax.datasets.checks import KINDS
from segjax.datasets.folder import pipeline
from segjax.datasets.folder.builder import Folder, dataset_dir
from segjax.datasets.folder.decisions import decide
from segjax.datasets.folder.examination import Checker, Options, examine_all
from segjax.datasets.folder.image_files import ImageFile, list_items, root_of
from segjax.datasets.formats import Annotations, open_annotations
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import prepare as prepare_builder
from segjax.errors import InputError
from segjax.experiment.dataset_report import contact_sheets
from segjax.files import write_json
from segjax.report.dataset_page import format_counts, write_quality

SHARED = ("train", "validation", "test")
MARK = "preparation.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for; each field is a flag of `scripts/prepare.py`."""

    images: str
    masks: str
    out: str
    mask_format: str = "auto"
    metadata: str | None = None
    pattern: str | None = None
    classes: tuple[str, ...] = ()
    channel_axis: int | None = None
    shares: tuple[float, ...] = (0.7, 0.15, 0.15)
    split_by: Literal["group", "image"] = "group"
    folds: int | None = None
    seed: int = 0
    accept: tuple[str, ...] = ()


def prepare_folder(
    request: Request, *, workers: int, previews: bool, beam: Sequence[str] | None = None
) -> str:
    """Makes a data set of a folder.

    May be stopped at any moment: what was made of each image is kept, and the same command goes on from there
    to the same files, byte by byte.

    Args:
      request: what to make of what.
      workers: processes that look at images; 0 for none but this one.
      previews: whether contact sheets are drawn.
      beam: options of Apache Beam, such as `--runner=FlinkRunner`, if it shall do the work.

    Returns:
      What to print.

    Raises:
      InputError: if anything that was given cannot be used.
    """
    if unknown := sorted(set(request.accept) - set(KINDS)):
        raise InputError(f"--accept={unknown[0]} is no finding: choose among {', '.join(KINDS)}")
    if len(request.shares) != len(SHARED):
        raise InputError(f"--shares has {len(request.shares)} numbers: give those of {', '.join(SHARED)}")
    out = Path(request.out)
    root, items = list_items(
        request.images,
        metadata=request.metadata,
        pattern=request.pattern,
        without=_inside(request.masks, request.images),
        among_masks=root_of(request.images).resolve().is_relative_to(Path(request.masks).resolve()),
    )
    annotations = open_annotations(
        request.masks,
        format=request.mask_format,
        class_names=("background", *request.classes) if request.classes else None,
        images={item.key: item.path for item in items},
    )
    class_names = _class_names(request, annotations, items)
    state = _state(items, Path(request.masks))
    if _finished(out, request, state):
        return f"{out} is prepared already: {out / 'report' / 'index.html'}"
    examiner = Checker(
        annotations,
        Options(class_names, channel_axis=request.channel_axis, accept=frozenset(request.accept)),
        out / "staging",
        marks=state["annotations"],
    )
    if beam is not None:
        pipeline.examine_all(examiner, items, beam)
    else:
        bar = tqdm(total=len(items), unit="image", desc="examine", dynamic_ncols=True)
        with bar:
            for _ in examine_all(examiner, items, workers=workers):
                bar.update()
    plan = decide(
        items,
        examiner.staging,
        annotated=annotations.keys,
        shares=dict(zip(SHARED, request.shares, strict=True)),
        by=request.split_by,
        folds=request.folds,
        seed=request.seed,
        accept=frozenset(request.accept),
    )
    # The examples are made already: what is left to do is not worth a bar.
    tfds.disable_progress_bar()
    prepare_builder(
        Folder,
        out,
        config=None if beam is None else pipeline.download_config(beam),
        staging=examiner.staging,
        splits=plan.splits,
        class_names=class_names,
        about={"leaks": list(plan.leaks)},
        pipeline=beam is not None,
    )
    sources = {split: FolderSource(split, data_dir=out) for split in plan.splits}
    sheets = contact_sheets(sources, class_names) if previews else []
    about = write_quality(
        out / "report",
        plan,
        title=f"{out.name}: state of the data",
        class_names=class_names,
        warnings=_warnings(items),
        sheets=sheets,
        split_sha256=next(iter(sources.values())).split_sha256,
    )
    for done in ("staging", "downloads"):
        shutil.rmtree(out / done, ignore_errors=True)
    write_json(out / MARK, {"request": _plain(request), "state": state})
    contents = format_counts({split: part["images"] for split, part in about["splits"].items()})
    return (
        f"{format_counts(about['images'])} of {len(items)} images in {root}\n{contents}\n\n"
        f"report: {out / 'report' / 'index.html'}\n"
        f"train on it: --config=configs/semantic.py:dataset=folder --config.dataset.data_dir={out}"
    )


def _class_names(request: Request, annotations: Annotations, items: Sequence[ImageFile]) -> tuple[str, ...]:
    """Those that were given, else those of the annotation, else those of the table."""
    of_images = sorted({item.class_name for item in items if item.class_name is not None})
    if not of_images:
        return tuple(annotations.class_names)
    names = ("background", *(request.classes or of_images))
    if missing := sorted(set(of_images) - set(names)):
        raise InputError(f"the class {missing[0]!r} of an image is not among --classes={','.join(names[1:])}")
    return names


def _inside(masks: str, images: str) -> list[Path]:
    """The folder of the masks, where it lies in that of the images and images are not picked by a pattern."""
    folder = Path(masks)
    inside = folder.is_dir() and Path(images).is_dir() and folder.resolve() != Path(images).resolve()
    return [folder] if inside else []


def _state(items: Sequence[ImageFile], masks: Path) -> dict[str, str]:
    """Digests of what was given, by which a change is noticed."""
    images = [(dataclasses.replace(item, path=Path()), *_stat(item.path)) for item in items]
    found = [masks] if masks.is_file() else sorted(path for path in masks.rglob("*") if path.is_file())
    annotations = [(str(path), *_stat(path)) for path in found]
    return {
        name: hashlib.sha256(repr(value).encode()).hexdigest()
        for name, value in (("images", images), ("annotations", annotations))
    }


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _finished(out: Path, request: Request, state: dict[str, str]) -> bool:
    """Whether all is done; refuses a folder in which something else was prepared."""
    mark = out / MARK
    if not mark.exists():
        if dataset_dir(out).exists() and not (out / "staging").exists():
            raise InputError(
                f"{out} holds a data set that was not made by this command: choose another --out"
            )
        return False
    before = json.loads(mark.read_text())
    if before != {"request": _plain(request), "state": state}:
        changed = [name for name, value in _plain(request).items() if before["request"].get(name) != value]
        what = (
            f"--{changed[0]} was {before['request'].get(changed[0])!r}"
            if changed
            else "the files have changed"
        )
        raise InputError(
            f"{out} was prepared from something else ({what}): choose another --out, or delete that folder"
        )
    return True


def _plain(request: Request) -> dict[str, Any]:
    """As JSON gives it back; the place of the result is no part of what was asked for."""
    fields = {name: value for name, value in dataclasses.asdict(request).items() if name != "out"}
    return json.loads(json.dumps(fields))


def _warnings(items: Sequence[ImageFile]) -> list[str]:
    found = []
    if all(item.group is None for item in items):
        found.append(
            "Nothing says which images are of one patient, so each was split on its own (those that look"
            " alike together): give --metadata with a column `patient`, or --pattern, if several are."
        )
    return found
