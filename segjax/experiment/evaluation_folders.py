"""Truth and predictions of any program as files: label images, COCO, GeoJSON, and the other formats."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.data.mixture import names_of
from segjax.data.readers import read_image
from segjax.data.records import Record, Source
from segjax.datasets.folder.image_files import list_items
from segjax.datasets.folder.table import GROUPS, read_table
from segjax.datasets.formats import Annotations, open_annotations
from segjax.datasets.formats.coco import Coco, parse_coco
from segjax.datasets.formats.documents import JsonField, load_json
from segjax.datasets.formats.layout import AnnotationSource, absolute
from segjax.datasets.formats.remapping import RemappedKeys
from segjax.errors import InputError
from segjax.experiment.annotation_segmentation import (
    Notes,
    named,
    stated_shape,
    to_segmentation,
    without_ignored,
)
from segjax.experiment.prediction_tables import PREDICTIONS
from segjax.files import walk
from segjax.inference.exports.marks import LABELS, is_result
from segjax.metrics.calibration import are_probabilities
from segjax.segmentation import Segmentation


class TruthFolder:
    """The true segmentations in a folder or file, with the images if there are any.

    Attributes:
      class_names: background first.
      annotations: reads the truth.
      keys: key of each image by the name of its record.
      notes: facts about the files.
    """

    def __init__(
        self,
        path: str,
        *,
        format: str = "auto",  # noqa: A002 - as in `open_annotations`
        images: str | None = None,
        metadata: str | None = None,
    ) -> None:
        """Opens the truth.

        Args:
          path: folder or file of the truth.
          format: one of `FORMATS`, or "auto".
          images: folder of the images; without them, images in the report are black.
          metadata: table with the patient or group of each image, as for `segjax prepare`.

        Raises:
          InputError: if there is no truth, an image is missing, or the table cannot be used.
        """
        self._path, self.notes = path, Notes()
        self._digests: dict[str, str] = {}
        self._images: dict[str, Path] = {}
        if images is not None:
            _, items = list_items(images, without=[Path(path)], among_masks=True)
            self._images = {item.key: item.path for item in items}
        self.annotations = open_annotations(path, format=format, images=self._images)
        self.class_names = tuple(self.annotations.class_names)
        keys = sorted(self.annotations.keys)
        if images is not None and (missing := [key for key in keys if key not in self._images]):
            raise InputError(
                f"--images={images} holds no image of {named(missing)}, which --truth={path} has"
            )
        self.keys = {key.replace("/", "_"): key for key in keys}
        if len(self.keys) < len(keys):
            one = next(key for key in keys if self.keys[key.replace("/", "_")] != key)
            other = self.keys[one.replace("/", "_")]
            raise InputError(
                f"--truth={path} has {one} and {other}, whose names are equal in the report: rename one"
            )
        # Without images, the table names the keys, with or without a suffix.
        files = {key: self._images.get(key, Path(key)) for key in keys}
        groups = {} if metadata is None else read_table(Path(metadata), files)
        self._groups = {key: _group(groups.get(key, {})) for key in keys}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Record:
        name, key = [*self.keys.items()][index]
        if key in self._images:
            image = read_image(self._images[key])
            shape = image.shape[:2]
        else:
            shape = stated_shape(self.annotations, key)
            image = np.zeros((*shape, 1), np.uint8)
        raw = self.annotations.read(key, shape)
        truth = to_segmentation(raw, range(len(self.class_names)), f"--truth={self._path}: {key}", self.notes)
        content = truth.labels.tobytes() + truth.classes.tobytes()
        self._digests[name] = hashlib.sha256(content).hexdigest()
        return Record(name, self._groups[key] or name, image, truth)

    @property
    def facts(self) -> dict[str, str]:
        """The digest of the truth, for reports; empty if this process has not read all of it."""
        if len(self._digests) < len(self.keys):
            return {}
        return {"truth_sha256": hashlib.sha256(repr(sorted(self._digests.items())).encode()).hexdigest()}


class PredictionFolder:
    """The predictions in a folder or file; each is read when it is used.

    Attributes:
      path: folder or file.
      class_names: background first.
      notes: facts about the files.
    """

    def __init__(self, path: str, source: Source, *, format: str = "auto") -> None:  # noqa: A002
        """Opens predictions.

        Args:
          path: folder or file of the predictions.
          source: the images that they belong to.
          format: one of `FORMATS`, or "auto".

        Raises:
          InputError: if there are no predictions, an image has none, or two images have the same name.
        """
        self.path, self.notes = path, Notes()
        if isinstance(source, TruthFolder):
            records, truth = source.keys, source.annotations
        else:
            names = names_of(source)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise InputError(
                    f"two images of the truth are called {twice}, and {path} has predictions by name: compare"
                    " on one data set at a time"
                )
            records, truth = {name: name for name in names}, None
        self._annotations = _open_predictions(Path(path), list(records.values()), truth, format)
        self.class_names = tuple(self._annotations.class_names)
        self._keys = _matched(records, self._annotations.keys, path)
        for key in self._annotations.keys - set(self._keys.values()):
            self.notes.add(f"{path} has predictions that are not scored, as the truth has no such image", key)
        self._classes: Sequence[int] = ()

    def use_classes(self, class_names: Sequence[str]) -> None:
        """Maps the classes of the predictions to those of the truth by name, or all to its only class."""
        names = list(class_names)
        self._classes = [1 if len(names) == 2 else names.index(name) for name in self.class_names]

    def predict(self, record: Record) -> Segmentation:
        """Reads the prediction of a record."""
        key = self._keys[record.name]
        where = f"{self.path}: {key}"
        raw = self._annotations.read(key, record.truth.shape)
        segmentation = to_segmentation(raw, self._classes, where, self.notes)
        if not are_probabilities(segmentation.scores):
            self.notes.add(f"{self.path} has scores outside 0 to 1, so that it has no calibration", key)
        return without_ignored(segmentation, where, self.notes)


def _matched(records: Mapping[str, str], keys: Collection[str], path: str) -> dict[str, str]:
    """Returns the key of the prediction of each record, by its name.

    Args:
      records: key of each image by the name of its record.
      keys: keys of the predictions.
      path: folder of the predictions, for errors.
    """
    flat = {key.replace("/", "_"): key for key in keys}
    matched = {name: key if key in keys else flat.get(name, "") for name, key in records.items()}
    missing = [records[name] for name, key in matched.items() if not key]
    if missing:
        unused = sorted(set(keys) - set(matched.values()))
        there = f"; it has {named(unused)}, which the truth does not have" if unused else ""
        raise InputError(
            f"{path} has no prediction of {named(missing)}, {len(missing)} of {len(records)} images{there}:"
            " predict every image, as a missing prediction cannot be scored",
            kind="missing_mask",
        )
    return matched


def _open_predictions(path: Path, keys: Sequence[str], truth: Annotations | None, form: str) -> Annotations:
    """Opens predictions; those of `segjax predict` by their COCO file, which has classes and scores."""
    if form == "auto" and (path / PREDICTIONS).is_file():
        path = path / PREDICTIONS
    if form in ("auto", "coco") and path.suffix.lower() == ".json" and path.is_file():
        content = load_json(path)
        if isinstance(content, list) and all(isinstance(one, dict) and "image_id" in one for one in content):
            return _coco_results(path, content, truth)
    ending = LABELS.format(stem="")
    written = [one for one in walk(path) if is_result(one) and not one.name.endswith(ending)]
    images = {key: path / key for key in keys}
    without = tuple(map(absolute, written))
    return open_annotations(path, format=form, images=images, without=without)


def _coco_results(path: Path, results: Sequence[Mapping[str, Any]], truth: Annotations | None) -> Annotations:
    """Opens a list of results, as `COCO.loadRes` takes it, with the images and categories of the truth."""
    if isinstance(truth, RemappedKeys):
        return RemappedKeys(_coco_results(path, results, truth.annotations), truth.names)
    if not isinstance(truth, Coco):
        raise InputError(
            f"{path} is a list of COCO's results, which names images by numbers: give a truth in COCO's"
            " format, or a file with images and categories"
        )
    content = {
        "images": [image.fields for image in truth.images.values()],
        "categories": [{"id": index, "name": name} for index, name in truth.categories.items()],
        "annotations": [{"id": index, **one} for index, one in enumerate(results, start=1)],
    }
    return parse_coco(JsonField(str(path), content), AnnotationSource(path, truth.class_names))


def _group(fields: Mapping[str, str]) -> str | None:
    return next((fields[name] for name in GROUPS if name in fields), None)
