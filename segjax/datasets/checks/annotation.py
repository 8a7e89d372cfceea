"""Checks and safe repairs of one annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from skimage.measure import label

from segjax.datasets.checks.findings import Finding, without_remedy
from segjax.datasets.formats.annotation import RawAnnotation
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Fraction of the largest piece of a cell. A slip of the brush is smaller; a lobe, or a cell that another one
# divides, is larger.
FRAGMENT = 0.05
# Largest areas, in pixels, of stray pixels and of tiny instances. Both also require that the median area of
# the class is at least `TINY_RATIO` times as large: four pixels are a slip among nuclei, but may be a small
# micronucleus where the median is twenty pixels.
STRAY = 3
TINY = 9
TINY_RATIO = 8
# No cell touches all four sides and covers more than half of the image, except under extreme magnification.
INVERTED = 0.5
# From so many ids on, with so many pieces per id and such a fraction of tiny pieces: ringing, not cells.
RINGING_IDS, RINGING_PIECES, RINGING_TINY = 8, 3, 0.7
# Masks from a JPEG have valid ids with at most so many pieces per id and so small a largest id per id.
SOUND_PIECES, SOUND_IDS = 1.2, 2
# A single id is a foreground from so many pieces on, each at least a tenth of the largest; if the format
# permits a foreground mask, from two on.
FOREGROUND_PIECES, FOREGROUND_PIECE = 4, 0.1
# Up to so many ids with so many large pieces per id are classes.
CLASS_IDS, CLASS_PIECES = 12, 3
# From so many blends on, if such a fraction of the ids are blends of other ids along the edges of cells.
BLENDS, BLENDED = 6, 0.7
# Maximum fraction of the entries of an image that may be invalid and are left out; a single one always is.
MAX_INVALID = 0.25
# From so many cells on, one quarter alone is no accident.
CORNER_CELLS = 8
# Maximum number of ids that a finding names.
NAMED = 3


class Pieces(NamedTuple):
    """The connected pieces of all ids: M pieces of N ids.

    Attributes:
      map: [H, W] integer, the piece of a pixel, 1..M; 0 is background.
      area: [M] int64, pixels of piece i + 1.
      ids: [N] int64, the ids in ascending order.
      owner: [M] int64, the index into `ids` of piece i + 1.
    """

    map: np.ndarray
    area: np.ndarray
    ids: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> Pieces:
        """Finds the 8-connected pieces of a label map in one pass over the image."""
        parts, count = label(labels, background=0, connectivity=2, return_num=True)
        id_of = np.zeros(count + 1, np.int64)
        id_of[parts.ravel()] = labels.ravel()
        ids, owner = np.unique(id_of[1:], return_inverse=True)
        return cls(parts, np.bincount(parts.ravel(), minlength=count + 1)[1:], ids, owner)

    @property
    def sides(self) -> tuple[np.ndarray, ...]:
        """The pieces along the four sides of the image."""
        return self.map[0], self.map[-1], self.map[:, 0], self.map[:, -1]

    @property
    def background(self) -> int | None:
        """The id of the largest piece if it touches all four sides of the image."""
        if not len(self.area):
            return None
        largest = int(self.area.argmax())
        touches_all = all(largest + 1 in side for side in self.sides)
        return int(self.ids[self.owner[largest]]) if touches_all else None

    def per_id(self, values: np.ndarray) -> np.ndarray:
        """Sums [M] values of pieces to [N] values of ids."""
        return np.bincount(self.owner, weights=values, minlength=len(self.ids))


def check_annotation(
    annotation: RawAnnotation, shape: tuple[int, int], *, num_classes: int
) -> tuple[Segmentation | None, list[Finding]]:
    """Checks an annotation, and repairs it where that is safe.

    Args:
      annotation: the annotation of one image.
      shape: `(H, W)` of the image.
      num_classes: K, with background.

    Returns:
      The repaired segmentation, None if the annotation cannot become one, and the findings.
    """
    labels = annotation.labels
    findings = _unusable(annotation, shape, num_classes)
    if findings:
        return None, findings
    pieces = Pieces.of(labels)
    background = pieces.background
    if background is not None and labels.min() > 0 and len(pieces.ids) > 1:
        findings.append(Finding("background_id", f"id {background} is the background"))
        pieces = Pieces.of(np.where(labels == background, 0, labels))
    elif background is not None:
        fraction = np.mean(labels == background)
        if fraction > INVERTED:
            detail = f"id {background} touches all four sides and covers {fraction:.0%} of the image"
            findings.append(Finding("inverted_mask", detail))
    selected, instance_findings = _repair(pieces, annotation.classes)
    # If ids are not cells, findings of single ids mean nothing.
    findings += _not_instances(annotation, pieces) or [*instance_findings, *_in_corner(pieces)]
    if annotation.num_hidden:
        findings.append(Finding("hidden_instances", f"{annotation.num_hidden} of the outlines or masks"))
    if annotation.num_crowds:
        kind = "crowds" if selected.any() else "only_crowds"
        findings.append(Finding(kind, f"{annotation.num_crowds} annotations with iscrowd=1"))
    elif not selected.any():
        findings.append(Finding("empty_mask", "all background"))
    if annotation.invalid:
        findings.append(_invalid_entries(annotation.invalid, len(pieces.ids) + annotation.num_hidden))
    truth = _segmentation(pieces, selected, annotation.classes)
    if annotation.ignore is not None:
        truth.semantic[annotation.ignore & (truth.labels == 0)] = IGNORE
    return truth, findings


def _in_corner(pieces: Pieces) -> list[Finding]:
    """Detects cells that were drawn on a smaller copy of the image: all lie in its top left quarter."""
    height, width = pieces.map.shape
    elsewhere = pieces.map[height // 2 + 1 :].any() or pieces.map[:, width // 2 + 1 :].any()
    if elsewhere or len(pieces.ids) < CORNER_CELLS:
        return []
    return [Finding("only_in_corner", f"all {len(pieces.ids)} cells")]


def _invalid_entries(invalid: Sequence[str], num_valid: int) -> Finding:
    """Returns the finding of entries that are left out. Many were probably made for another image."""
    is_many = len(invalid) > max(1, MAX_INVALID * (len(invalid) + num_valid)) or not num_valid
    more = f" and {len(invalid) - 1} more" if len(invalid) > 1 else ""
    kind = "many_invalid_outlines" if is_many else "invalid_outlines"
    return Finding(kind, f"{without_remedy(invalid[0])}{more}, beside {num_valid} valid ones")


def _unusable(annotation: RawAnnotation, shape: tuple[int, int], num_classes: int) -> list[Finding]:
    """Returns the first finding that makes the annotation unusable, if any."""
    labels = annotation.labels
    if labels.shape != shape:
        sizes = (" x ".join(map(str, size)) for size in (labels.shape, shape))
        return [Finding("size_mismatch", "the mask is {}, the image {}".format(*sizes))]
    if labels.size and labels.min() < 0:
        return [Finding("invalid_ids", f"the smallest id is {labels.min()}")]
    unknown = sorted({index for index in annotation.classes.values() if not 1 <= index < num_classes})
    if unknown:
        detail = f"classes {_first(unknown)}; there are 1 to {num_classes - 1}"
        return [Finding("invalid_class", detail)]
    return []


def _not_instances(annotation: RawAnnotation, pieces: Pieces) -> list[Finding]:
    """Detects annotations whose ids are not cells."""
    num_ids, num_pieces = len(pieces.ids), len(pieces.area)
    if annotation.lossy:
        # A thresholded and numbered mask has ids without gaps, nearly all in one piece.
        sound = (
            num_pieces <= 1 + SOUND_PIECES * num_ids and pieces.ids.max(initial=0) <= 1 + SOUND_IDS * num_ids
        )
        kind = "lossy_edges" if sound else "lossy_mask"
        return [Finding(kind, f"{num_ids} ids in {num_pieces} pieces of a JPEG")]
    if num_ids >= RINGING_IDS and num_pieces > RINGING_PIECES * num_ids:
        tiny = (pieces.area <= TINY).mean()
        if tiny > RINGING_TINY:
            detail = f"{num_ids} ids in {num_pieces} pieces, {tiny:.0%} of them of {TINY} pixels or fewer"
            return [Finding("lossy_mask", detail)]
    num_blends = _count_blends(annotation.labels)
    if num_blends >= max(BLENDS, BLENDED * num_ids):
        return [Finding("lossy_mask", f"{num_ids} ids, {num_blends} of them only along the edges of others")]
    fewest = 2 if annotation.binary else FOREGROUND_PIECES
    num_large = int((pieces.area >= FOREGROUND_PIECE * pieces.area.max(initial=0)).sum())
    if num_ids == 1 and num_large >= fewest:
        return [Finding("binary_mask", f"one id in {num_pieces} pieces")]
    if 1 < num_ids <= CLASS_IDS and num_large >= CLASS_PIECES * num_ids:
        return [Finding("class_map", f"{num_ids} ids in {num_pieces} pieces")]
    return []


def _count_blends(labels: np.ndarray) -> int:
    """Counts the ids that touch another id and fill no square of 3 x 3 pixels.

    Interpolation and JPEG blend the colours, or the ids, of neighbours along a line of one or two pixels.
    """
    right, below = labels[:, 1:], labels[1:]
    same_right, same_below = labels[:, :-1] == right, labels[:-1] == below
    rows = same_right[:, :-1] & same_right[:, 1:]
    columns = same_below[:-1, 1:-1] & same_below[1:, 1:-1]
    filled = labels[1:-1, 1:-1][rows[:-2] & rows[1:-1] & rows[2:] & columns]
    touching = [
        np.concatenate([first[selected], second[selected]])
        for first, second, same in ((labels[:, :-1], right, same_right), (labels[:-1], below, same_below))
        for selected in [~same & (first > 0) & (second > 0)]
    ]
    return len(np.setdiff1d(np.concatenate(touching), filled))


def _repair(pieces: Pieces, classes: Mapping[int, int]) -> tuple[np.ndarray, list[Finding]]:
    """Selects the pieces that stay, [M] bool, and returns the findings of single ids."""
    num_ids = len(pieces.ids)
    largest = np.zeros(num_ids, np.int64)
    np.maximum.at(largest, pieces.owner, pieces.area)
    fragment = np.less(pieces.area, FRAGMENT * largest[pieces.owner])
    area, count = pieces.per_id(pieces.area * ~fragment), pieces.per_id(~fragment)
    class_of = _classes_of(pieces.ids, classes)
    median = np.zeros(num_ids)
    for index in np.unique(class_of):
        median[class_of == index] = np.median(area[class_of == index])
    at_border = np.zeros(len(pieces.area) + 1, bool)
    for side in pieces.sides:
        at_border[side] = True
    # A cell that the border divides may be of any size.
    small = (area * TINY_RATIO < median) & (pieces.per_id(at_border[1:]) == 0)
    stray = small & (area <= STRAY)
    removed = f"{int(fragment.sum())} fragments of {int(pieces.area[fragment].sum())} pixels"
    findings = [
        Finding(kind, f"{detail}, ids {_first(pieces.ids[selected])}")
        for kind, selected, detail in (
            ("fragments", pieces.per_id(fragment) > 0, removed),
            ("stray_pixels", stray, f"{STRAY} pixels or fewer"),
            ("disconnected_instances", (count > 1) & ~stray, "several pieces"),
            ("tiny_instances", ~stray & small & (area <= TINY), f"{TINY} pixels or fewer"),
        )
        if selected.any()
    ]
    if num_ids and pieces.ids[-1] != num_ids:
        findings.append(Finding("id_gaps", f"{num_ids} ids up to {pieces.ids[-1]}"))
    return ~fragment & ~stray[pieces.owner], findings


def _segmentation(pieces: Pieces, selected: np.ndarray, classes: Mapping[int, int]) -> Segmentation:
    """Makes a segmentation of the selected pieces, numbered 1..N by ascending id."""
    ids = np.concatenate([[0], np.where(selected, pieces.ids[pieces.owner], 0)])
    present = pieces.ids[np.unique(pieces.owner[selected])]
    return Segmentation.from_labels(ids[pieces.map], classes=_classes_of(present, classes))


def _classes_of(ids: np.ndarray, classes: Mapping[int, int]) -> np.ndarray:
    """Returns the classes of ids, [N] int32."""
    return np.array([classes.get(int(index), 1) for index in ids], np.int32)


def _first(values: np.ndarray | list[int]) -> str:
    """Formats the first values, such as `1, 2, 3 and 7 more`."""
    named = ", ".join(str(value) for value in values[:NAMED])
    return named + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")
