"""What is wrong with the drawing of one image, and the repairs that take away but slips of the hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from skimage.measure import label

from segjax.datasets.checks.findings import Finding
from segjax.segmentation import Segmentation
from segjax.typing import IGNORE

# Of the largest piece of a cell: a slip of the brush is smaller, a lobe or a cell cut by another is larger.
FRAGMENT = 0.05
# Pixels, and only where the image's cells of that class have this many times more: of micronuclei, whose
# median may be twenty pixels, four are a small one, of nuclei a slip of the mouse.
DOT = 3
SPECK = 9
SPECK_RATIO = 8
# No cell reaches all four sides and covers more than half of the image, except under extreme magnification.
INVERTED = 0.5
# From this many ids on, with this many pieces for each and mostly specks: ringing, not cells.
RINGING_IDS, RINGING_PIECES, RINGING_SPECKS = 8, 3, 0.7
# Of masks from JPEG whose ids can be trusted: at most so many pieces for each id, and how far ids go.
SOUND_PIECES, SOUND_IDS = 1.2, 2
# A single id in at least so many pieces, each at least a tenth of the largest, is a foreground; where the
# format says that it may be one, two are enough.
FOREGROUND_PIECES, FOREGROUND_PIECE = 4, 0.1
# Ids named in a finding.
NAMED = 3


class Drawn(Protocol):
    """What an annotator drew on one image, before anything is repaired."""

    @property
    def labels(self) -> np.ndarray:
        """[H, W] int32, 0 is background; gaps and negative ids are possible."""

    @property
    def classes(self) -> Mapping[int, int]:
        """The class of an id; ids that are not in it are of class 1."""

    @property
    def lossy(self) -> bool:
        """Read from a JPEG."""

    @property
    def binary(self) -> bool:
        """A foreground of one value although instances were asked for."""

    @property
    def unseen(self) -> int:
        """Outlines or masks that cover no pixel, or are covered whole by others."""

    @property
    def ignore(self) -> np.ndarray | None:
        """[H, W] bool, pixels that nothing may judge; None where there are none."""


class Pieces(NamedTuple):
    """The connected pieces of all ids, M of them, of N ids.

    Attributes:
      map: [H, W] integer, the piece of a pixel, 1..M; 0 is background.
      area: [M] int64, pixels of piece i + 1.
      ids: [N] int64, the ids, rising.
      owner: [M] int64, the index into `ids` of piece i + 1.
    """

    map: np.ndarray
    area: np.ndarray
    ids: np.ndarray
    owner: np.ndarray


def check(
    drawing: Drawn, shape: tuple[int, int], *, num_classes: int
) -> tuple[Segmentation | None, list[Finding]]:
    """Looks for what is wrong with a drawing, and repairs what is safe.

    Args:
      drawing: of one image.
      shape: `(H, W)` of the image.
      num_classes: K, the background included.

    Returns:
      The segmentation after repairs, None where the drawing cannot be one; and what was found.
    """
    labels = drawing.labels
    found = _unusable(drawing, shape, num_classes)
    if found:
        return None, found
    pieces = _pieces(labels)
    background = _background(pieces)
    if background is not None and labels.min() > 0 and len(pieces.ids) > 1:
        found.append(Finding("background_id", f"id {background} is the background"))
        labels = np.where(labels == background, 0, labels)
        pieces = _pieces(labels)
    elif background is not None:
        share = np.mean(labels == background)
        if share > INVERTED:
            detail = f"id {background} reaches all four sides and covers {share:.0%} of the image"
            found.append(Finding("inverted_mask", detail))
    suspicious = _suspicious(drawing, pieces)
    kept, repaired = _repair(pieces, drawing.classes)
    # Where ids are no cells, what is odd about single ones says nothing.
    found += suspicious or repaired
    if drawing.unseen:
        found.append(Finding("unseen", f"{drawing.unseen} of the outlines or masks"))
    if not kept.any():
        found.append(Finding("empty_mask", "all background"))
    truth = _segmentation(pieces, kept, drawing.classes)
    if drawing.ignore is not None:
        truth.semantic[drawing.ignore & (truth.labels == 0)] = IGNORE
    return truth, found


def _unusable(drawing: Drawn, shape: tuple[int, int], num_classes: int) -> list[Finding]:
    """The first reason why this is no drawing of the image at all, if there is one."""
    labels = drawing.labels
    if labels.shape != shape:
        drawn, taken = (" x ".join(map(str, size)) for size in (labels.shape, shape))
        return [Finding("other_size", f"the mask is {drawn}, the image {taken}")]
    if labels.size and labels.min() < 0:
        return [Finding("bad_ids", f"ids go down to {labels.min()}")]
    outside = {index for index in drawing.classes.values() if not 1 <= index < num_classes}
    if outside:
        return [Finding("bad_class", f"classes {_few(sorted(outside))}; there are 1 to {num_classes - 1}")]
    return []


def _pieces(labels: np.ndarray) -> Pieces:
    # One pass over the image for all ids: what is done for each id afterwards is done for each piece.
    parts, count = label(labels, background=0, connectivity=2, return_num=True)
    id_of = np.zeros(count + 1, np.int64)
    id_of[parts.ravel()] = labels.ravel()
    ids, owner = np.unique(id_of[1:], return_inverse=True)
    return Pieces(parts, np.bincount(parts.ravel(), minlength=count + 1)[1:], ids, owner)


def _background(pieces: Pieces) -> int | None:
    """The id of the largest piece, if it reaches all four sides of the image."""
    if not len(pieces.area):
        return None
    largest = int(pieces.area.argmax())
    reached = all(largest + 1 in side for side in _sides(pieces.map))
    return int(pieces.ids[pieces.owner[largest]]) if reached else None


def _sides(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    return labels[0], labels[-1], labels[:, 0], labels[:, -1]


def _suspicious(drawing: Drawn, pieces: Pieces) -> list[Finding]:
    """Drawings whose ids are not cells."""
    num_ids, num_pieces = len(pieces.ids), len(pieces.area)
    if drawing.lossy:
        # What was cut at half of white and then numbered has ids without gaps, nearly all in one piece.
        sound = (
            num_pieces <= 1 + SOUND_PIECES * num_ids and pieces.ids.max(initial=0) <= 1 + SOUND_IDS * num_ids
        )
        return [
            Finding(
                "lossy_edges" if sound else "lossy_mask", f"{num_ids} ids in {num_pieces} pieces of a JPEG"
            )
        ]
    if num_ids >= RINGING_IDS and num_pieces > RINGING_PIECES * num_ids:
        specks = (pieces.area <= SPECK).mean()
        if specks > RINGING_SPECKS:
            detail = (
                f"{num_ids} ids lie in {num_pieces} pieces, {specks:.0%} of them of {SPECK} pixels or fewer"
            )
            return [Finding("lossy_mask", detail)]
    fewest = 2 if drawing.binary else FOREGROUND_PIECES
    alike = int((pieces.area >= FOREGROUND_PIECE * pieces.area.max(initial=0)).sum())
    if num_ids == 1 and alike >= fewest:
        return [Finding("binary_mask", f"one id in {num_pieces} pieces")]
    return []


def _repair(pieces: Pieces, classes: Mapping[int, int]) -> tuple[np.ndarray, list[Finding]]:
    """Decides which pieces stay, [M] bool, and says what that repairs, and what else is odd about an id."""
    found = []
    num_ids = len(pieces.ids)
    largest = np.zeros(num_ids, np.int64)
    np.maximum.at(largest, pieces.owner, pieces.area)
    fragment = np.less(pieces.area, FRAGMENT * largest[pieces.owner])
    area = np.bincount(pieces.owner, weights=pieces.area * ~fragment, minlength=num_ids)
    count = np.bincount(pieces.owner, weights=~fragment, minlength=num_ids)
    class_of = _classes_of(pieces.ids, classes)
    median = np.zeros(num_ids)
    for index in np.unique(class_of):
        median[class_of == index] = np.median(area[class_of == index])
    cut = np.zeros(len(pieces.area) + 1, bool)
    for side in _sides(pieces.map):
        cut[side] = True
    # What the border cuts may be as small as it likes.
    tiny = (area * SPECK_RATIO < median) & (
        np.bincount(pieces.owner, weights=cut[1:], minlength=num_ids) == 0
    )
    dot = tiny & (area <= DOT)
    speck = ~dot & tiny & (area <= SPECK)
    stray = np.bincount(pieces.owner, weights=fragment, minlength=num_ids) > 0

    def add(kind: str, of: np.ndarray, detail: str) -> None:
        if of.any():
            found.append(Finding(kind, f"{detail} {_few(pieces.ids[of])}"))

    add(
        "fragments",
        stray,
        f"{int(fragment.sum())} fragments of {int(pieces.area[fragment].sum())} pixels, of ids",
    )
    add("dots", dot, f"{DOT} pixels or fewer, ids")
    add("pieces", (count > 1) & ~dot, "several pieces, ids")
    add("specks", speck, f"{SPECK} pixels or fewer, ids")
    if num_ids and pieces.ids[-1] != num_ids:
        found.append(Finding("gaps", f"{num_ids} ids up to {pieces.ids[-1]}"))
    return ~fragment & ~dot[pieces.owner], found


def _segmentation(pieces: Pieces, kept: np.ndarray, classes: Mapping[int, int]) -> Segmentation:
    """The kept pieces, numbered 1..N by ascending id."""
    owners = np.unique(pieces.owner[kept])
    number = np.zeros(len(pieces.ids), np.int32)
    number[owners] = np.arange(1, len(owners) + 1)
    of_piece = np.concatenate([np.zeros(1, np.int32), np.where(kept, number[pieces.owner], 0)]).astype(
        np.int32
    )
    labels = of_piece[pieces.map]
    of_id = _classes_of(pieces.ids[owners], classes)
    semantic = np.concatenate([np.zeros(1, np.int32), of_id])[labels]
    return Segmentation(labels, of_id, np.ones(len(of_id), np.float32), semantic)


def _classes_of(ids: np.ndarray, classes: Mapping[int, int]) -> np.ndarray:
    """[N] int32."""
    return np.array([classes.get(int(index), 1) for index in ids], np.int32)


def _few(values: np.ndarray | list[int]) -> str:
    """`1, 2, 3 and 7 more`."""
    named = ", ".join(str(value) for value in values[:NAMED])
    return named + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")
