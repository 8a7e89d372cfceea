"""Prepares a data set from a user's folder and writes a quality report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tensorflow_datasets as tfds
from tqdm import tqdm

from segjax.datasets.checks.findings import KINDS
from segjax.datasets.folder import pipeline
from segjax.datasets.folder.builder import Folder, dataset_dir
from segjax.datasets.folder.decisions import Plan, decide
from segjax.datasets.folder.examination import Checker, Options, check_all
from segjax.datasets.folder.image_files import ImageFile, list_items, root_of
from segjax.datasets.formats import Annotations, open_annotations
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import prepare as prepare_builder
from segjax.errors import InputError
from segjax.experiment.dataset_report import contact_sheets
from segjax.files import write_json
from segjax.report.dataset_page import format_counts, write_quality

SPLITS = ("train", "validation", "test")
# Written last into the output folder; records the request and its inputs.
MARK = "preparation.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """Settings of `segjax prepare`; each field is one of its flags."""

    images: str
    masks: str
    out: str
    mask_format: str = "auto"
    metadata: str | None = None
    pattern: str | None = None
    classes: tuple[str, ...] = ()
    channel_axis: int | None = None
    axis: tuple[tuple[str, int], ...] = ()
    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)
    split_by: Literal["group", "image"] = "group"
    folds: int | None = None
    seed: int = 0
    accept: tuple[str, ...] = ()
    crowds: str = "ignore"

    @property
    def key(self) -> dict[str, Any]:
        """The request as JSON returns it, without the output folder."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}
        return json.loads(json.dumps(fields))


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The files of a request.

    Attributes:
      root: folder of the images.
      items: all images, sorted by key.
      masks: file or folder of the masks.
      annotations: the opened masks.
      class_names: background first.
    """

    root: Path
    items: Sequence[ImageFile]
    masks: Path
    annotations: Annotations
    class_names: tuple[str, ...]

    @cached_property
    def state(self) -> dict[str, str]:
        """Digests of sizes and modification times, which change with the files."""
        images = [(dataclasses.replace(item, path=Path()), *_stat(item.path)) for item in self.items]
        masks = self.masks
        paths = [masks] if masks.is_file() else sorted(path for path in masks.rglob("*") if path.is_file())
        annotations = [(str(path), *_stat(path)) for path in paths]
        return {
            name: hashlib.sha256(repr(value).encode()).hexdigest()
            for name, value in (("images", images), ("annotations", annotations))
        }


def prepare_folder(
    request: Request, *, workers: int, previews: bool, beam: Sequence[str] | None = None
) -> str:
    """Prepares a data set from a folder of images and masks.

    The preparation may be interrupted at any time: the same command resumes, with byte-identical results.

    Args:
      request: settings of the preparation.
      workers: number of processes that check images; 0 uses only this process.
      previews: whether to draw contact sheets.
      beam: options of Apache Beam, such as `--runner=FlinkRunner`, to run on it.

    Returns:
      The message for the user.

    Raises:
      InputError: if the request or its files are invalid.
    """
    out = Path(request.out)
    inputs = _open_inputs(request)
    if _is_finished(out, request, inputs.state):
        return f"{out} is prepared already: {out / 'report' / 'index.html'}"
    checker = _check_images(out, request, inputs, workers, beam)
    plan = decide(
        inputs.items,
        checker.staging,
        annotated=inputs.annotations.keys,
        fractions=dict(zip(SPLITS, request.fractions, strict=True)),
        by=request.split_by,
        folds=request.folds,
        seed=request.seed,
        accept=frozenset(request.accept),
    )
    _write_dataset(out, inputs, checker, plan, beam)
    summary = _write_report(out, inputs, plan, previews)
    for folder in ("staging", "downloads"):
        shutil.rmtree(out / folder, ignore_errors=True)
    write_json(out / MARK, {"request": request.key, "state": inputs.state})
    splits = format_counts({split: part["images"] for split, part in summary["splits"].items()})
    return (
        f"{format_counts(summary['images'])} of {len(inputs.items)} images in {inputs.root}\n{splits}\n\n"
        f"report: {out / 'report' / 'index.html'}\n"
        f"train on it: --config=configs/semantic.py:dataset=folder --config.dataset.data_dir={out}"
    )


def _open_inputs(request: Request) -> _Inputs:
    """Validates the request, lists the images and opens the masks."""
    if unknown := sorted(set(request.accept) - set(KINDS)):
        raise InputError(f"--accept={unknown[0]} is unknown: choose among {', '.join(KINDS)}")
    if len(request.fractions) != len(SPLITS):
        raise InputError(
            f"--fractions has {len(request.fractions)} numbers, not one for each of {', '.join(SPLITS)}"
        )
    masks, folder = Path(request.masks), root_of(request.images).resolve()
    # Masks in a folder below that of the images are not images.
    is_below = masks.is_dir() and folder in masks.resolve().parents
    root, items = list_items(
        request.images,
        metadata=request.metadata,
        pattern=request.pattern,
        without=[masks] if is_below else [],
        among_masks=folder.is_relative_to(masks.resolve()),
    )
    annotations = open_annotations(
        request.masks,
        format=request.mask_format,
        class_names=("background", *request.classes) if request.classes else None,
        images={item.key: item.path for item in items},
        crowds_are_cells=request.crowds == "cells",
    )
    return _Inputs(root, items, masks, annotations, _class_names(request, annotations, items))


def _class_names(request: Request, annotations: Annotations, items: Sequence[ImageFile]) -> tuple[str, ...]:
    """Returns the classes of the annotations, unless the table gives each image a class."""
    image_classes = sorted({item.class_name for item in items if item.class_name is not None})
    if not image_classes:
        return tuple(annotations.class_names)
    names = ("background", *(request.classes or image_classes))
    if missing := sorted(set(image_classes) - set(names)):
        raise InputError(f"the class {missing[0]!r} of an image is not among --classes={','.join(names[1:])}")
    return names


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _is_finished(out: Path, request: Request, state: dict[str, str]) -> bool:
    """Returns whether the same request is already prepared; refuses a folder with another data set."""
    mark = out / MARK
    if not mark.exists():
        if dataset_dir(out).exists() and not (out / "staging").exists():
            raise InputError(
                f"{out} holds a data set that was not made by this command: choose another --out"
            )
        return False
    before = json.loads(mark.read_text())
    if before != {"request": request.key, "state": state}:
        options = before["request"]
        changed = [name for name, value in request.key.items() if options.get(name) != value]
        reason = f"--{changed[0]} was {options.get(changed[0])!r}" if changed else "the files have changed"
        raise InputError(
            f"{out} was prepared from something else ({reason}): choose another --out, or delete that folder"
        )
    return True


def _check_images(
    out: Path, request: Request, inputs: _Inputs, workers: int, beam: Sequence[str] | None
) -> Checker:
    """Checks, repairs and stages all images."""
    checker = Checker(
        inputs.annotations,
        Options(
            inputs.class_names,
            image_classes=any(item.class_name is not None for item in inputs.items),
            crowds=request.crowds,
            channel_axis=request.channel_axis,
            planes=request.axis,
            accept=frozenset(request.accept),
        ),
        out / "staging",
        annotations_digest=inputs.state["annotations"],
    )
    if beam is not None:
        pipeline.check_all(checker, inputs.items, beam)
    else:
        staged = check_all(checker, inputs.items, workers=workers)
        for _ in tqdm(staged, total=len(inputs.items), unit="image", desc="check", dynamic_ncols=True):
            pass
    return checker


def _write_dataset(
    out: Path, inputs: _Inputs, checker: Checker, plan: Plan, beam: Sequence[str] | None
) -> None:
    """Writes the staged examples as a TFDS data set."""
    # The examples are encoded already: copying them is too quick for a progress bar.
    tfds.disable_progress_bar()
    prepare_builder(
        Folder,
        out,
        config=None if beam is None else pipeline.download_config(beam),
        staging=checker.staging,
        splits=plan.splits,
        class_names=inputs.class_names,
        about={"leaks": list(plan.leaks)},
        pipeline=beam is not None,
    )


def _write_report(out: Path, inputs: _Inputs, plan: Plan, previews: bool) -> dict[str, Any]:
    """Writes the quality report and returns its content."""
    sources = {split: FolderSource(split, data_dir=out) for split in plan.splits}
    warnings = []
    if all(item.group is None for item in inputs.items):
        warnings.append(
            "It is not known which images are of one patient, so each image was split on its own, apart from"
            " near duplicates. If several are, give --metadata with a column `patient`, or --pattern."
        )
    return write_quality(
        out / "report",
        plan,
        title=f"{out.name}: state of the data",
        class_names=inputs.class_names,
        warnings=warnings,
        sheets=contact_sheets(sources, inputs.class_names) if previews else [],
        split_sha256=next(iter(sources.values())).split_sha256,
    )
